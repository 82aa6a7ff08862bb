"""Writer: what is written into a study in the background, one after the other, none skipped."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_wsimil.app.names import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = tuple[Callable[[], Any], Callable[[Any], None]]


class Writer(QObject):
    """Runs functions in a thread in the order they came; another program may hold the study."""

    failed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: deque[Write] = deque()
        self._worker: FunctionWorker | None = None

    @property
    def busy(self) -> bool:
        return self._worker is not None

    def write(self, work: Callable[[], Any], done: Callable[[Any], None] = lambda _: None) -> None:
        """Do `work()` and hand what it returns to `done` on this thread."""
        self._waiting.append((work, done))
        if self._worker is None:
            self._start()

    def _start(self) -> None:
        if not self._waiting:
            return
        work, self._done = self._waiting.popleft()
        worker = self._worker = FunctionWorker(work)
        worker.returned.connect(self._take)
        worker.errored.connect(self._tell)
        worker.finished.connect(self._end)
        worker.start()

    def _take(self, result: Any) -> None:
        if isalive(self):
            self._done(result)

    def _tell(self, error: BaseException) -> None:
        if isalive(self):
            self.failed.emit(NAMES.words(error))

    def _end(self) -> None:
        self._worker = None
        self._start()
