"""Latest: small work in the background of which only the last asked for counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_wsimil.app.names import NAMES

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
        self._asked: Ask | None = None
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
        self._next = self._asked = None

    def _start(self) -> None:
        if self._next is None:
            return
        self._asked, self._next = self._next, None
        worker = self._worker = FunctionWorker(self._asked[0])  # it lives until it has finished
        worker.returned.connect(self._take)
        worker.errored.connect(self._tell)
        worker.finished.connect(self._end)
        worker.start()

    def _take(self, result: Any) -> None:
        if self._asked is not None and self._next is None:
            self._asked[1](result)

    def _tell(self, error: BaseException) -> None:
        if self._asked is not None and self._next is None:
            self._asked[2](NAMES.words(error))

    def _end(self) -> None:
        self._worker = self._asked = None
        if isalive(self):
            self._start()
