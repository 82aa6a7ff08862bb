"""NewStudyDialog: where a new study lies, what it is called, and what its fields are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.app.widgets.docked import allow
from napari_wsimil.app.widgets.path_row import PathRow
from napari_wsimil.study.open_study import Unit

if TYPE_CHECKING:
    from pathlib import Path

#: What the fields of a new study are, by the names of schemas that ship; "" for none yet.
SCHEMAS = {
    "": "drafted from the table I import",
    "lymphoma": "malignant lymphoma: 28 variables, interview and blood",
    "tcga": "The Cancer Genome Atlas",
    "breast_biopsy": "breast core biopsy",
    "phantom": "synthetic cohorts of this program",
}


class NewStudyDialog(QDialog):
    """Asks for folder, name, fields and unit of prediction of a new study."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("New study")
        self.setMinimumWidth(460)
        self.place = PathRow("Folder of the study", "", "where?")
        self.place.setToolTip("An empty or new folder; the study can be moved later")
        self.name = QLineEdit()
        self.name.setPlaceholderText("as its folder")
        self.fields = QComboBox()
        for key, words in SCHEMAS.items():
            self.fields.addItem(words, key)
        self.unit = QComboBox()
        self.unit.addItem("the patient, with all slides", Unit.PATIENT)
        self.unit.addItem("each slide for itself", Unit.SLIDE)
        self.unit.setToolTip("What a prediction is of; it stays so")
        note = QLabel("Give patients pseudonyms: the study shows the names it is given.")
        note.setWordWrap(True)
        form = QFormLayout()
        form.addRow("Folder", self.place)
        form.addRow("Name", self.name)
        form.addRow("Fields", self.fields)
        form.addRow("Predictions are of", self.unit)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.make_button = buttons.button(kinds.Ok)
        self.make_button.setText("Make the study")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(note)
        column.addWidget(buttons)
        self.place.changed.connect(self._allow)
        self._allow()

    @property
    def folder(self) -> Path | None:
        """Where the study is to lie."""
        return self.place.path

    @property
    def schema_name(self) -> str:
        """Name of the schema that was chosen; empty for no fields yet."""
        return str(self.fields.currentData())

    def _allow(self) -> None:
        allow(self.make_button, self.place.path is not None, "Choose a folder first")
