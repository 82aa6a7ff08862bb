"""SlidesTab: the slides of a patient, and which of them drove the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPushButton, QWidget

from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.gui.widgets.dock import allow, listen
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.study.open_study import Unit
from napari_wsimil.workflows.patient import AskedPatient, patient_job, pooled_words, slide_rows

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.case import Case

_TITLES = ("slide", "alone", "changes by")
_TIP = (
    "alone: what this slide says by itself; changes by: the patient's probability less that "
    "without this slide. Click one to open it"
)


class SlidesTab(Tab):
    """Asks of all slides of the pane's patient; `slide_wanted` gives the one that was clicked,
    `answered` what the model says.

    It is there for a patient of an open study who has several slides.
    """

    name: ClassVar[str] = "Slides"
    slide_wanted = Signal(object)
    answered = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(session.pane, parent)
        self._session = session
        self._asked: AskedPatient | None = None
        self._known: tuple[Case, Patient] | None = None
        self.job = JobRow()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.ask_button = QPushButton("Ask of all slides")
        self.table = Table(_TIP)
        for part in (self.ask_button, self.job, self.words, self.table):
            self.column.addWidget(part)
        self.column.addStretch(1)
        self.ask_button.clicked.connect(self.ask)
        self.table.chosen.connect(self._choose)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        record = self._pane.record_state.events
        listen(self, self._forget, record.case, self._pane.prediction_state.events.model)
        listen(self, self._forget_answer, record.record)
        self._refresh()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        return (self.job,)

    def fits(self, prediction: Prediction) -> bool:
        patient = self._patient()
        return patient is not None and len(patient.slides) > 1

    def ask(self) -> None:
        """Read the features of all slides of the patient and ask the model, in the background."""
        patient, model = self._patient(), self._pane.model
        if patient is None or model is None:
            return
        record = self._pane.record if model.card.record is not None else None
        shown = self._pane.case, model, self._pane.record

        def take(found: AskedPatient) -> None:
            if shown == (self._pane.case, self._pane.model, self._pane.record):
                self._asked = found
                self.answered.emit(found.prediction)

        self.job.run(patient_job(patient, model, record), take)

    def _patient(self) -> Patient | None:
        """Return the pane's patient as the study has them, read once per case."""
        study, case = self._session.study, self._pane.case
        if study is None or case is None or not case.patient:
            return None
        if self._known is None or self._known[0] is not case:
            self._known = case, study.patient(case.patient)
        return self._known[1]

    def _choose(self, row: int) -> None:
        patient = self._patient()
        if patient is not None and row < len(patient.slides):
            self.slide_wanted.emit(patient.slides[row])

    def _forget(self, _: object) -> None:
        """Take away what was said of another patient or record, or by another model."""
        self._asked = None
        self._refresh()

    def _forget_answer(self, record: object) -> None:
        if self._asked is not None:
            self._forget(record)

    def _refresh(self) -> None:
        patient, busy = self._patient(), self.job.busy
        why = "Something is running" if busy else "Open a model, and a case of a study"
        allow(
            self.ask_button, patient is not None and self._pane.model is not None and not busy, why
        )
        unit = Unit.PATIENT if self._session.study is None else self._session.study.unit
        if self._asked is not None:
            self.words.setText(pooled_words(self._asked, unit))
            self.table.fill(_TITLES, slide_rows(self._asked, unit))
        elif patient is not None:
            self.words.setText(f"{len(patient.slides)} slides; ask what each says.")
            self.table.fill(_TITLES, [(row.slide, "", "") for row in patient.slides])
