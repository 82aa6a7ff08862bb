"""NewStudyDialog: where a new study lies, what it is called, and what its fields are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.cohort.headers import DAYS
from napari_wsimil.gui.widgets.basic import PathRow
from napari_wsimil.gui.widgets.dock import allow
from napari_wsimil.study.open_study import Unit

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.cohort.endpoint import Endpoint

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


_KINDS = "Tables (*.csv *.tsv *.xlsx *.parquet *.txt)"


class ExportDialog(QDialog):
    """Asks for file and form of an export; says what leaves."""

    def __init__(self, endpoint: Endpoint, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export the cohort")
        self.setMinimumWidth(460)
        self.file = PathRow("Export the cohort", _KINDS, "where? the ending decides", to_write=True)
        self.portal = QCheckBox("For cBioPortal (data_clinical_patient.txt)")
        self.unit = QComboBox()
        self.unit.addItems(list(DAYS))
        self._endpoint = endpoint
        self.unit.setCurrentText(endpoint.unit or "months")
        self.unit.setToolTip("Unit of the study's times; cBioPortal has months")
        self.outcome = QLabel(f"{endpoint.title}: the columns are called after it")
        note = QLabel(
            "Patients go out under their names in the study, without paths of files. The "
            "ledger notes the file and where it went."
        )
        note.setWordWrap(True)
        form = QFormLayout()
        form.addRow("File", self.file)
        form.addRow(self.portal)
        form.addRow("Times are in", self.unit)
        form.addRow("Outcome", self.outcome)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.export_button = buttons.button(kinds.Ok)
        self.export_button.setText("Export")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(note)
        column.addWidget(buttons)
        self.file.changed.connect(self._allow)
        self.portal.toggled.connect(self._allow)
        self._allow()

    @property
    def path(self) -> Path | None:
        """The file to write."""
        return self.file.path

    @property
    def cbioportal(self) -> bool:
        """Whether cBioPortal's form is wanted."""
        return bool(self.portal.isChecked())

    @property
    def time_unit(self) -> str:
        """Unit of the study's times."""
        return str(self.unit.currentText()) if self.cbioportal else ""

    def _allow(self, _: object = None) -> None:
        self.unit.setEnabled(self.cbioportal and not self._endpoint.unit)
        allow(self.export_button, self.path is not None, "Choose a file first")
