"""ExportDialog: where the cohort goes, and in which form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.app.widgets.docked import allow
from napari_wsimil.app.widgets.path_row import PathRow
from napari_wsimil.cohort.table_import.headers import DAYS

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.cohort.endpoint import Endpoint

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
