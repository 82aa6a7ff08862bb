"""RecordKeeper: writes what is done to a record into the open study, in the background."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_wsimil.gui.widgets.background import Writer
from napari_wsimil.workflows.record_edits import Tried, correct, kept, note_tried

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.records import Held
    from napari_wsimil.workflows.study import Case


class RecordKeeper(QObject):
    """Notes edits that came to rest, each with what it did to the model in view, and corrects.

    An edit whose answer is not there yet is noted when it is; if it never comes, since another
    slide, model or patient is shown by then, it is noted without.
    """

    corrected = Signal(object)
    failed = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._writer = Writer(self)
        self._writer.failed.connect(self.failed)
        self._pending: tuple[Case, Record, Record, str] | None = None
        self._before: Prediction | None = None
        self._pane.events.prediction.connect(self._leave)
        self._pane.events.case.connect(self._leave)

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return self._writer.busy

    def begin(self) -> None:
        """Take what the model says now for what it says before an edit."""
        if self._pending is None:
            self._before = self._pane.prediction

    def rest(self, case: Case, old: Record, new: Record, why: str, landed: bool) -> None:
        """Note an edit from one record to another; its answer is there if it has `landed`."""
        if self._pending is not None:
            old = self._pending[1]
        self._pending = case, old, new, why
        if landed or self._pane.prediction is None:
            self.land()

    def land(self) -> None:
        """Note the edit that waited for its answer, which is what the pane shows."""
        self._settle(self._before, self._pane.prediction)
        self._before = self._pane.prediction

    def _leave(self, _: object = None) -> None:
        """Note the edit that waits for an answer of what is not shown any more."""
        if self._pending is None or not isalive(self):
            return
        case = self._pane.case
        if (
            self._pane.prediction is None
            or case is None
            or case.patient != self._pending[0].patient
        ):
            self._settle(None, None)
            self._before = None

    def _settle(self, before: Prediction | None, after: Prediction | None) -> None:
        pending, study = self._pending, self._session.study
        self._pending = None
        if pending is None or study is None or study.read_only or not pending[0].patient:
            return
        case, old, new, why = pending
        tried = Tried(case, old, new, before, after, why)
        self._writer.write(partial(note_tried, study, tried))

    def correct(self, case: Case, record: Record, why: str) -> None:
        """Write a record into the study, for a reason."""
        study = self._session.study
        if study is None:
            return
        tried = Tried(case, case.record, record, self._pane.baseline, self._pane.prediction, why)
        self._writer.write(partial(correct, study, tried), self.corrected.emit)

    def step(self, case: Case, back: bool) -> None:
        """Take a correction back, or make it again, as an entry of its own."""
        study = self._session.study
        if study is None:
            return
        act = study.records.undo if back else study.records.redo
        work = partial(act, case.patient, version=case.version)
        self._writer.write(work, partial(self._take, case))

    def _take(self, case: Case, held: Held) -> None:
        self.corrected.emit(kept(case, held))
