"""TableCorrector: writes what is corrected in the table of patients into the open study."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_wsimil.app.widgets.writer import Writer
from napari_wsimil.workflows.study import correct_field

if TYPE_CHECKING:
    from napari_wsimil.app.session import Session
    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.study.create_study import Study


class TableCorrector(QObject):
    """Emits a patient as the study has them now, and why something was not written."""

    read = Signal(object)
    refused = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._correcting: tuple[Study, str] | None = None
        self._writer = Writer(self)
        self._writer.failed.connect(self._refuse)

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return self._writer.busy

    def correct(self, shown: Patient, field: str, value: Value, why: str) -> None:
        """Correct a field of a patient's record that a person saw, with an entry in the ledger."""
        study, case = self._session.study, self._pane.case
        if study is None:
            return
        if case is not None and case.patient == shown.name and not self._pane.may_leave():
            self.refused.emit(f"The record of {shown.name} is being corrected in the Record dock")
            return
        seen = None if shown.record is None else shown.record[field]
        self._correcting = study, shown.name
        work = partial(correct_field, study, shown.name, field, seen, value, why)
        self._writer.write(work, partial(self._tell, study))

    def _refuse(self, words: str) -> None:
        """Say why it was not written, and tell the patient as the study has them."""
        self.refused.emit(words)
        corrected, self._correcting = self._correcting, None
        if corrected is not None:
            study, name = corrected
            self._writer.write(partial(study.patient, name), partial(self._tell, study))

    def _tell(self, study: Study, patient: Patient) -> None:
        if study is self._session.study:
            self.read.emit(patient)
