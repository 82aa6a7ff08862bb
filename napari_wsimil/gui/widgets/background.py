"""Background work: the latest task, a queue of tasks, and throttled calls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer

from napari_wsimil.gui.names import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.workflows.progress import RateLimiter

_RETRY_MS = 50


@dataclass(frozen=True, eq=False)
class _Task:
    """A function for a thread, and the functions that take its result or error."""

    work: Callable[[], Any]
    done: Callable[[Any], object]
    failed: Callable[[str], object]


class _TaskRunner(QObject):
    """Runs one task at a time in a thread and reports on the thread of this object."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: FunctionWorker | None = None
        self._task: _Task | None = None
        self._waiting: deque[_Task] = deque()

    @property
    def busy(self) -> bool:
        return self._worker is not None

    def _add(self, task: _Task) -> None:
        self._waiting.append(task)
        if self._worker is None:
            self._start()

    def _start(self) -> None:
        if not self._waiting:
            return
        self._task = self._waiting.popleft()
        worker = self._worker = FunctionWorker(self._task.work)  # it lives until it has finished
        worker.returned.connect(self._deliver)
        worker.errored.connect(self._report)
        worker.finished.connect(self._finish)
        worker.start()

    def _wanted(self) -> bool:
        return self._task is not None and isalive(self)

    def _deliver(self, result: Any) -> None:
        if self._wanted() and self._task is not None:
            self._task.done(result)

    def _report(self, error: BaseException) -> None:
        if self._wanted() and self._task is not None:
            self._task.failed(NAMES.words(error))

    def _finish(self) -> None:
        self._worker = self._task = None
        self._start()


class LatestTask(_TaskRunner):
    """Runs the latest of several tasks; tasks requested before it are skipped.

    While one task runs in its thread, only the newest request waits. The result of a task is
    dropped as soon as another one is requested: a click that nobody waits for is not computed.
    """

    def run(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object],
        failed: Callable[[str], object],
    ) -> None:
        """Run `work` and pass its result to `done`, or the text of its error to `failed`."""
        self._waiting.clear()
        self._add(_Task(work, done, failed))

    def drop(self) -> None:
        """Cancel all requests; neither `done` nor `failed` is called for them."""
        self._waiting.clear()
        self._task = None

    def _wanted(self) -> bool:
        return not self._waiting and super()._wanted()

    def _finish(self) -> None:
        if not isalive(self):
            self._waiting.clear()
        super()._finish()


class TaskQueue(_TaskRunner):
    """Runs all tasks in a thread, one after another, in the order of their requests.

    A session has one queue for all that is written into its study: writes never overtake each
    other, and a read after a write sees it.
    """

    def submit(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object] = lambda _: None,
        failed: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Add `work`; pass its result to `done`, or the text of its error to `failed`."""
        self._add(_Task(work, done, failed))


class Throttle(QObject):
    """Calls a function at a limited rate; the last request is never lost.

    Parameters
    ----------
    act
        Function to call, on this thread.
    limiter
        Decides when the next call is due.
    """

    def __init__(self, parent: QObject, act: Callable[[], None], limiter: RateLimiter) -> None:
        super().__init__(parent)
        self._act, self._limiter = act, limiter
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.request)

    def request(self, *_: object) -> None:
        """Call the function now, or as soon as the next call is due."""
        if self._limiter.due:
            self._timer.stop()
            with self._limiter:
                self._act()
        elif not self._timer.isActive():
            self._timer.start(_RETRY_MS)

    def cancel(self) -> None:
        """Cancel a call that is not due yet."""
        self._timer.stop()
