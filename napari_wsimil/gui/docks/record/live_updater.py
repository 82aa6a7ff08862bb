"""Follower: brings a pane's maps up to its record, in the background, as fast as it changes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QOpenGLWidget

from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.dock import listen
from napari_wsimil.gui.widgets.job_row import JobWorker, drive
from napari_wsimil.models.base import ExplanationKind
from napari_wsimil.progress import Progress
from napari_wsimil.workflows.live_update import SOURCE, Question, Revised, answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget
    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.counterfactual import Revisable
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.loaded import LoadedModel

#: What is said beside the map while it is older than the record.
BEHIND = "older than the record; being brought up"
#: Seconds that the rest of the patches wait at most for the frame with those in view.
_DRAWN_S = 0.2
#: Milliseconds after which an edit that has not landed is told of on the canvas too.
_LATE_MS = 300
#: Largest share of the patches that is updated before the others; beyond it that only delays.
_WORTH = 0.6


@dataclass(frozen=True, eq=False)
class _Ready:
    """What was prepared, for whom and of what."""

    model: LoadedModel
    bag: Bag
    revisable: Revisable

    def fits(self, asked: Question) -> bool:
        same = self.bag.features is asked.bag.features and self.bag.grid is asked.bag.grid
        return same and self.model is asked.model


class Follower(QObject):
    """Answers the record of a pane. One question is worked on at a time; of those that come
    meanwhile all are skipped but the last, which never is.

    Parameters
    ----------
    pane
        Whose maps follow its record.

    Attributes
    ----------
    compared
        Name of the map that is compared with the pane's baseline; empty for none.
    started, landed
        Something on screen is older than the record; nothing is any more.
    milliseconds
        From the last edit that was answered to the moment its maps were handed to the canvas.
    """

    started = Signal()
    preparing = Signal(int, int)
    landed = Signal(object)
    failed = Signal(str)

    def __init__(self, pane: Pane, parent: QWidget) -> None:
        super().__init__(parent)
        self._pane = pane
        self._ready: _Ready | None = None
        self._worker: JobWorker | None = None
        self._asked: Question | None = None
        self._newest: Record | None = None
        self._since = 0.0
        self.compared = ""
        self.milliseconds = 0.0
        self._canvas: QOpenGLWidget | None = None
        self._drawn, self._undrawn = threading.Event(), False
        self._soon = _timer(self, 0, self._begin)  # once the field that was edited is drawn
        self._late = _timer(self, _LATE_MS, self._mark)
        listen(
            self,
            self._forget,
            pane.prediction_state.events.model,
            pane.slide_state.events.bag,
        )

    @property
    def busy(self) -> bool:
        """Whether something on screen is older than the record."""
        return self._worker is not None or self._soon.isActive()

    def follow(self) -> None:
        """Answer the pane's record, unless no model here reads records."""
        asked = question(self._pane, self.compared)
        if asked is None:
            return
        self._newest, self._since = asked.record, time.perf_counter()
        self.started.emit()
        if not self._late.isActive():
            self._late.start()
        if self._worker is None:
            self._soon.start()

    # work

    def _begin(self) -> None:
        asked = question(self._pane, self.compared)
        if asked is not None and self._worker is None:
            self._start(asked)

    def _start(self, asked: Question) -> None:
        ready = self._ready if self._ready is not None and self._ready.fits(asked) else None
        self._asked = asked
        revisable = None if ready is None else ready.revisable
        self._drawn.clear()
        self._listen()
        job = answers(asked, revisable, lambda: self._newest is not asked.record, self._wait_drawn)
        worker = self._worker = JobWorker(drive, job)
        worker.job = job
        worker.yielded.connect(self._show)
        worker.returned.connect(self._keep)
        worker.errored.connect(self._tell)
        worker.finished.connect(self._go_on)
        self.parent().window().installEventFilter(self)
        worker.start()

    def _show(self, step: Progress | Revised) -> None:
        if isinstance(step, Progress):
            self.preparing.emit(step.done, step.total)
        elif self._fits():
            self._pane.show_revision(step.prediction, SOURCE, step.changes)
            self._undrawn = True
            if step.whole and self._asked is not None and self._newest is self._asked.record:
                self.milliseconds = 1e3 * (time.perf_counter() - self._since)
                self._late.stop()
                self._pane.prediction_state.stale = ""
                self._pane.prediction_state.final_prediction = step.prediction
                self.landed.emit(step)

    def _listen(self) -> None:
        """Hear of the window's frames, from whichever of its canvases."""
        canvas = self.parent().window().findChild(QOpenGLWidget)
        if canvas is not None and canvas is not self._canvas:
            self._canvas = canvas
            canvas.frameSwapped.connect(self._note_frame)

    def _note_frame(self) -> None:
        if self._undrawn:
            self._undrawn = False
            self._drawn.set()

    def _wait_drawn(self) -> None:
        self._drawn.wait(_DRAWN_S)
        self._drawn.clear()

    def _mark(self) -> None:
        """Write on the canvas that the map is behind, unless that is over by now.

        It costs a frame of its own, for which an edit that lands at once need not wait.
        """
        if self.busy:
            self._pane.prediction_state.stale = BEHIND

    def _fits(self) -> bool:
        """Whether what was asked about is still what is shown."""
        pane, asked = self._pane, self._asked
        if asked is None or pane.prediction is None or pane.model is not asked.model:
            return False
        return pane.prediction.bag.features is asked.bag.features

    def _keep(self, revisable: Revisable) -> None:
        if self._asked is not None:
            self._ready = _Ready(self._asked.model, self._asked.bag, revisable)

    def _tell(self, error: BaseException) -> None:
        words = NAMES.words(error)
        self._late.stop()
        self._pane.prediction_state.stale = f"older than the record: {words}"
        self.failed.emit(words)

    def _go_on(self) -> None:
        """Ask again if the record has changed meanwhile."""
        done, self._asked, self._worker = self._asked, None, None
        if not isalive(self) or self._newest is None:
            return
        asked = question(self._pane, self.compared)
        if asked is not None and done is not None and asked.record is not done.record:
            self._start(asked)

    def _forget(self, _: object = None) -> None:
        """Hold on to no slide that is not shown, and end what is under way for it."""
        self._ready = self._newest = None
        self._soon.stop()
        self._late.stop()
        if self._worker is not None:
            self._worker.quit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stop when the window is closed."""
        if event.type() == QEvent.Type.Close:
            self._forget()
        return False


def _timer(parent: QObject, milliseconds: int, act: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(act)
    return timer


def question(pane: Pane, compared: str) -> Question | None:
    """Return the update that the record of a pane needs; None without a model that reads it."""
    model, seen, record = pane.model, pane.prediction, pane.record
    if model is None or seen is None or record is None or model.card.record is None:
        return None
    first = _in_view(pane, seen)
    return Question(model, seen.bag, record, seen, pane.prediction_state.baseline, compared, first)


def _in_view(pane: Pane, seen: Prediction) -> Tensor:
    """Return the visible patches; none where the map cannot be updated in parts."""
    grid, view, shown = seen.bag.grid, pane.view_state.view, pane.shown
    if grid is None or view is None or shown is None:
        return torch.empty(0, dtype=torch.long)
    one = shown.explanations[min(pane.display.map_index, len(shown.explanations) - 1)]
    corner = np.array([view.x - view.width / 2, view.y - view.height / 2])
    end = corner + np.array([view.width, view.height])
    inside = ((grid.coords + grid.patch_size > corner) & (grid.coords < end)).all(axis=1)
    if one.kind is not ExplanationKind.SIGMOID or inside.mean() > _WORTH:
        return torch.empty(0, dtype=torch.long)
    return torch.from_numpy(np.flatnonzero(inside))
