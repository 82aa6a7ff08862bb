"""Latest: small work in the background of which only the last asked for counts."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from napari_wsimil.gui.names import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = tuple[Callable[[], Any], Callable[[Any], None], Callable[[str], None]]
    from collections.abc import Callable

    from napari_wsimil.workflows.progress import Pace

    Write = tuple[Callable[[], Any], Callable[[Any], None]]


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


_WAIT = 50  # milliseconds until what came too early is tried again


class Paced(QObject):
    """Does something at a pace; however often it is asked for, it is done after the last time.

    Parameters
    ----------
    act
        What is done, on this thread.
    pace
        When it may be done again.
    """

    def __init__(self, parent: QObject, act: Callable[[], None], pace: Pace) -> None:
        super().__init__(parent)
        self._act, self._pace = act, pace
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.ask)

    def ask(self) -> None:
        """Do it now, or as soon as it may be done."""
        if self._pace.due:
            self._timer.stop()
            with self._pace:
                self._act()
        elif not self._timer.isActive():
            self._timer.start(_WAIT)

    def forget(self) -> None:
        """Do what was asked for no more."""
        self._timer.stop()


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
