"""StudySlides: the slides of the patient that is chosen, to open one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.app.widgets.docked import narrow

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Patient, SlideRow


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
