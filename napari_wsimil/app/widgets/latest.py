"""Latest: small work in the background of which only the last asked for counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = tuple[Callable[[], Any], Callable[[Any], None], Callable[[str], None]]


class Latest(QObject):
    """Runs one function at a time in a thread; what was asked meanwhile is skipped but the last.

    Nothing queues: a click whose answer nobody waits for any more is never computed.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: FunctionWorker | None = None
        self._next: Ask | None = None

    @property
    def busy(self) -> bool:
        return self._worker is not None

    def ask(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[str], None],
    ) -> None:
        """Compute `work()` and hand it to `done` on this thread, or the error's words to `failed`.

        If something newer is asked for before it is there, neither is called.
        """
        self._next = (work, done, failed)
        if self._worker is None:
            self._start()

    def drop(self) -> None:
        """Forget what was asked for; its answer will not come."""
        self._next = None
        if self._worker is not None:
            self._worker.quit()

    def _start(self) -> None:
        if self._next is None:
            return
        (work, done, failed), self._next = self._next, None
        worker = self._worker = create_worker(work, _ignore_errors=True)

        def wanted() -> bool:
            return isalive(self) and self._next is None and not worker.abort_requested

        worker.returned.connect(lambda result: done(result) if wanted() else None)
        worker.errored.connect(lambda error: failed(_words(error)) if wanted() else None)
        worker.finished.connect(self._end)
        worker.start()

    def _end(self) -> None:
        self._worker = None
        if isalive(self):
            self._start()


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
