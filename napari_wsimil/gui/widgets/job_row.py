"""JobRow: one job at a time in a thread, with progress, pause and cancel, and its errors."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_wsimil.gui.names import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_wsimil.progress import Progress, Work


class JobRow(QWidget):
    """Runs `Work` in a thread; hidden while there is nothing to tell.

    Cancelling takes effect at the job's next step, and so does closing the window. The job
    is closed in its own thread: what it had opened or started has ended with it.

    Parameters
    ----------
    pausable
        Whether to offer a pause, which takes effect at the job's next step.
    quiet
        Whether to stay hidden, for what is seen by what comes of it.

    Attributes
    ----------
    error
        What the last job failed with; None if it did not.
    canceled
        Whether the last job was asked to stop.
    """

    started = Signal()
    finished = Signal()

    def __init__(
        self, parent: QWidget | None = None, pausable: bool = False, quiet: bool = False
    ) -> None:
        super().__init__(parent)
        self._quiet = quiet
        self._worker: GeneratorWorker | None = None
        self._done: Callable[[Any], object] | None = None
        self._failed: Callable[[str], object] | None = None
        self._on_step: Callable[[Progress], None] | None = None
        self._results: list[Any] = []
        self.error: BaseException | None = None
        self.canceled = False
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.bar = QProgressBar()
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stops within a second; what is done so far stays")
        self.cancel_button.clicked.connect(self.cancel)
        self.pause_button = QPushButton("Pause")
        self.pause_button.setVisible(pausable)
        self.pause_button.clicked.connect(self.toggle_pause)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.pause_button)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        layout.addLayout(row)
        self.hide()

    @property
    def busy(self) -> bool:
        return self._worker is not None

    def run(
        self,
        job: Work[Any],
        done: Callable[[Any], object],
        on_step: Callable[[Progress], None] | None = None,
        failed: Callable[[str], object] | None = None,
    ) -> None:
        """Start `job`; `done` takes its result on this thread, or `failed` the error's words.

        While another job runs the new one is refused with a sentence.
        """
        if self.busy:
            show_info("Something is still running here: wait for it, or cancel it first.")
            return
        self._done, self._on_step, self._failed = done, on_step, failed
        self._results = []
        self.error, self.canceled = None, False
        self._worker = create_worker(drive, job, _worker_class=JobWorker, _ignore_errors=True)
        self._worker.job = job
        self._worker.yielded.connect(self._show_step)
        self._worker.returned.connect(self._take)
        self._worker.errored.connect(self._tell)
        self._worker.finished.connect(self._end)
        self._worker.paused.connect(self._show_pause)
        self._worker.resumed.connect(self._show_pause)
        self._show_pause()
        self.label.setText("starting")
        self.bar.setRange(0, 0)
        self.cancel_button.setEnabled(True)
        self.setVisible(not self._quiet)
        self.window().installEventFilter(self)
        self._worker.start()
        self.started.emit()

    def cancel(self) -> None:
        """Ask the job to stop at its next step."""
        if self._worker is not None:
            self.canceled = True
            self.cancel_button.setEnabled(False)
            self.pause_button.setEnabled(False)
            self.label.setText("stopping")
            self._worker.quit()

    def toggle_pause(self) -> None:
        """Ask the job to pause at its next step, or let it go on."""
        if self._worker is not None:
            self.pause_button.setEnabled(False)
            self._worker.toggle_pause()

    @property
    def paused(self) -> bool:
        """Whether a job stands still until it is resumed."""
        return self._worker is not None and bool(self._worker.is_paused)

    def _show_pause(self) -> None:
        if not self.canceled:
            self.pause_button.setText("Resume" if self.paused else "Pause")
            self.pause_button.setEnabled(True)
            if self.paused:
                self.label.setText(f"paused, {self.label.text()}")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Cancel when the window is closed."""
        if event.type() == QEvent.Type.Close:
            self.cancel()
        return False

    def _wanted(self) -> bool:
        return self._worker is not None and not self._worker.abort_requested

    def _show_step(self, step: Progress) -> None:
        if not self._wanted():
            return
        self.label.setText(step.text)
        self.bar.setRange(0, step.total)
        self.bar.setValue(step.done)
        if self._on_step is not None:
            self._on_step(step)

    def _take(self, result: Any) -> None:
        if self._wanted():
            self._results.append(result)

    def _end(self) -> None:
        """Hand over the result when nothing runs any more, so that a next job may follow."""
        results, done = self._results, self._done
        self._results = []
        self._worker = self._on_step = self._done = self._failed = None
        self.hide()
        try:
            if done is not None:
                for result in results:
                    done(result)
        finally:
            self.finished.emit()

    def _tell(self, error: BaseException) -> None:
        """Show what went wrong in one sentence; the viewer stays as it was, unless who asked
        has it otherwise.
        """
        self.error = error
        words = NAMES.words(error)
        show_error(words)
        if self._failed is not None:
            self._failed(words)


class JobWorker(GeneratorWorker):
    """A worker that closes its job in the thread it ran in, however it ended."""

    job: Generator[Any, None, Any]

    def work(self) -> Any:
        with closing(self.job):
            return super().work()


def drive(job: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """Run a job as a worker wants it: as a function that yields."""
    return (yield from job)
