"""CaseOpener: a patient of a study becomes the case of a pane, with a slide and features."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.dock import narrow
from napari_wsimil.workflows.study import case_of, seek

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.case import Case
    from napari_wsimil.workflows.study import Sought


class CaseOpener(QObject):
    """Asks for cases to be shown with their files, and says what is not there.

    The study is read in a thread; of cases that are asked for meanwhile the last is opened.
    `wanted` gives the slide and the case; a case without files is shown at once.
    """

    wanted = Signal(object, object)
    told = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._opening, self._renewing = LatestTask(self), LatestTask(self)
        self.manifest: Manifest | None = None

    @property
    def busy(self) -> bool:
        """Whether a case is being read."""
        return self._opening.busy or self._renewing.busy

    def patient(self, name: str) -> Patient | None:
        """Return a patient of the study, None if there is none of that name."""
        patients = self.manifest.patients if self.manifest is not None else ()
        return next((patient for patient in patients if patient.name == name), None)

    def open(self, name: str, slide: str = "") -> None:
        """Show a patient with a slide, or the first one."""
        study, manifest = self._session.study, self.manifest
        if study is None or manifest is None or self.patient(name) is None:
            return
        if self._pane.may_leave():
            work = partial(seek, study, manifest, name, slide)
            self._opening.run(work, self._show, partial(self._fail, name))

    def renew(self) -> None:
        """Show the case again if its record or its fields are not what they were."""
        case, study, manifest = self._pane.case, self._session.study, self.manifest
        if case is None or study is None or manifest is None or self.patient(case.patient) is None:
            return
        work = partial(case_of, study, manifest, case.patient)
        self._renewing.run(work, self._show_again, self.told.emit)

    def forget(self) -> None:
        """Open nothing any more of what was asked for: it is of another study."""
        self._opening.drop()
        self._renewing.drop()

    def _show(self, sought: Sought) -> None:
        self.told.emit(sought.lack)
        if sought.row is not None:
            self.wanted.emit(sought.row, sought.case)
        elif self._pane.may_leave():
            self._session.show_alone(sought.case)

    def _fail(self, name: str, words: str) -> None:
        """Show nobody in place of the patient before, and say why."""
        self.told.emit(f"{name} cannot be opened: {words}")
        if self._pane.may_leave():
            self._session.show_alone(None)

    def _show_again(self, now: Case) -> None:
        case = self._pane.case
        if case is None or case.patient != now.patient:
            return
        same = case.version == now.version and case.schema == now.schema
        if not same and self._pane.may_leave():
            self._pane.show_case(now)


class StudySlides(QWidget):
    """Emits the patient and the slide that are to be opened."""

    wanted = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._patient = ""
        self.name, self.list = QLabel(), QComboBox()
        narrow(self.list)
        self.open_button = QPushButton("Open case")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.name)
        row.addWidget(self.list, 1)
        row.addWidget(self.open_button)
        self.open_button.clicked.connect(self._want)
        self.show_patient(None)

    def show_patient(self, patient: Patient | None) -> None:
        """Show whose slides these are."""
        self.list.clear()
        self.setVisible(patient is not None)
        if patient is None:
            return
        self._patient = patient.name
        self.name.setText(f"<b>{patient.name}</b>")
        for slide in patient.slides:
            self.list.addItem(_words(slide), slide.slide)
        if not patient.slides:
            self.list.addItem("no slide: the record alone", "")
        self.list.setEnabled(len(patient.slides) > 1)

    def _want(self) -> None:
        self.wanted.emit(self._patient, self.list.currentData())


def _words(slide: SlideRow) -> str:
    label = f", {slide.label}" if slide.label else ""
    return f"{_files(slide)}{label}"


def _files(slide: SlideRow) -> str:
    if slide.slide_path is None:
        return (
            f"{slide.slide} (features alone)" if slide.feature_path else f"{slide.slide} (no file)"
        )
    return f"{slide.slide} with features" if slide.feature_path else slide.slide
