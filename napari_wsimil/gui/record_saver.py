"""RecordSaver: saves corrections of clinical records and logs what-if edits; knows no Qt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_wsimil.workflows.record_edits import RecordEdit, correct, log_what_if, with_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.case import Case
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.records import Held


class RecordSaver:
    """Writes edits of clinical records into the study of a session, through its write queue.

    A correction changes the patient's record and has an entry in the audit log; `saved` emits
    the case, `patient_read` a patient of the table as the study has them, `failed` the reason
    why nothing was written.

    A what-if edit changes no record; it is logged together with its effect on the prediction.
    The prediction may come later than the edit: `log_pending` is called when it is complete. If
    slide, model or patient are replaced before, `close_pending` logs it without an effect.
    """

    saved = Signal(object)
    patient_read = Signal(object)
    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        self._session, self._pane = session, session.pane
        self._pending: tuple[Case, Record, Record, str] | None = None
        self._before: Prediction | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return self._session.writes.busy

    # what-if edits

    def start_edit(self) -> None:
        """Remember the prediction before an edit."""
        if self._pending is None:
            self._before = self._pane.prediction

    def finish_edit(self, case: Case, old: Record, new: Record, why: str, complete: bool) -> None:
        """Log a what-if edit, at once if its prediction is `complete`."""
        if self._pending is not None:
            old = self._pending[1]
        self._pending = case, old, new, why
        if complete or self._pane.prediction is None:
            self.log_pending()

    def log_pending(self) -> None:
        """Log the edit that waited for its prediction, which is on screen now."""
        self._log(self._before, self._pane.prediction)
        self._before = self._pane.prediction

    def close_pending(self, _: object = None) -> None:
        """Log an edit whose prediction will never come; for every change of the pane."""
        if self._pending is None:
            return
        case = self._pane.case
        same = case is not None and case.patient == self._pending[0].patient
        if self._pane.prediction is None or not same:
            self._log(None, None)
            self._before = None

    def _log(self, before: Prediction | None, after: Prediction | None) -> None:
        pending, study = self._pending, self._session.study
        self._pending = None
        if pending is None or study is None or study.read_only or not pending[0].patient:
            return
        case, old, new, why = pending
        edit = RecordEdit(case, old, new, before, after, why)
        self._session.writes.submit(partial(log_what_if, study, edit), failed=self.failed.emit)

    # corrections

    def correct(self, case: Case, record: Record, why: str) -> None:
        """Save a record as the patient's own."""
        before, after = self._pane.prediction_state.baseline, self._pane.prediction
        edit = RecordEdit(case, case.record, record, before, after, why)
        self._save(partial(correct, edit=edit), partial(with_record, case))

    def undo(self, case: Case) -> None:
        """Take the last correction back, with an entry of its own."""
        self._save(partial(_undo, case=case), partial(with_record, case))

    def redo(self, case: Case) -> None:
        """Repeat the correction that was undone last, with an entry of its own."""
        self._save(partial(_redo, case=case), partial(with_record, case))

    def _save(self, write: Callable[[Study], Held], case_of: Callable[[Held], Case]) -> None:
        study = self._session.study
        if study is not None:
            self._session.writes.submit(
                partial(write, study), lambda held: self.saved.emit(case_of(held)), self.failed.emit
            )

    def correct_field(self, patient: Patient, field: str, value: Value, why: str) -> None:
        """Save one value of a patient as the table shows them, unless it changed meanwhile."""
        study, case = self._session.study, self._pane.case
        if study is None:
            return
        if case is not None and case.patient == patient.name and not self._pane.may_leave():
            name = patient.name
            self.failed.emit(f"The record of {name} is being corrected in the Record dock")
            return

        def refuse(words: str) -> None:
            self.failed.emit(words)
            self._read(study, patient.name)

        seen = {} if patient.record is None else {field: patient.record[field]}
        self._session.writes.submit(
            partial(study.records.correct, patient.name, {field: value}, why, seen=seen),
            lambda _: self._read(study, patient.name),
            refuse,
        )

    def _read(self, study: Study, name: str) -> None:
        """Read a patient after a write."""

        def take(patient: Patient) -> None:
            if study is self._session.study:
                self.patient_read.emit(patient)

        self._session.writes.submit(partial(study.patient, name), take, self.failed.emit)


def _undo(study: Study, case: Case) -> Held:
    return study.records.undo(case.patient, version=case.version)


def _redo(study: Study, case: Case) -> Held:
    return study.records.redo(case.patient, version=case.version)
