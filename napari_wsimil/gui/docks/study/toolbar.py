"""Study questions: the dialogs that ask where studies, slides and tables are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QGridLayout, QInputDialog, QPushButton, QWidget

from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
from napari_wsimil.gui import settings as memory
from napari_wsimil.gui.docks.study.dialogs import ExportDialog, NewStudyDialog
from napari_wsimil.gui.widgets.dock import allow
from napari_wsimil.study.backups import list_backups

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.endpoint import Endpoint
    from napari_wsimil.study.create_study import Study, Unit

TABLES = (
    "Tables (*.csv *.tsv *.txt *.xlsx *.parquet);;"
    "Studies of cBioPortal (*.zip *.tar *.tar.gz *.tgz);;All files (*)"
)


def ask_new(parent: QWidget) -> tuple[Path, ClinicalSchema, str, Unit] | None:
    """Return folder, schema, name and unit of a study to make, None if none is to be made."""
    dialog = NewStudyDialog(parent)
    if not dialog.exec_() or dialog.folder is None:
        return None
    schema = named_schema(dialog.schema_name) if dialog.schema_name else NO_FIELDS
    return dialog.folder, schema, dialog.name.text().strip(), dialog.unit.currentData()


def ask_export(endpoint: Endpoint, parent: QWidget) -> tuple[Path, str, bool] | None:
    """Return the table to write, the unit of its times, and whether it is for cBioPortal."""
    dialog = ExportDialog(endpoint, parent)
    if not dialog.exec_() or dialog.path is None:
        return None
    return dialog.path, dialog.time_unit, dialog.cbioportal


def ask_study(parent: QWidget) -> Path | None:
    """Return the folder of a study that somebody chose, None if nobody did."""
    start = str(memory.recall("study", memory.last_folder()))
    folder = QFileDialog.getExistingDirectory(parent, "Open a study", start)
    return Path(folder) if folder else None


def ask_slides(parent: QWidget) -> tuple[Path, Path] | None:
    """Return a folder of slides and one for a study of them, None if one was not chosen."""
    start = memory.last_folder()
    slides = QFileDialog.getExistingDirectory(parent, "Folder of slides", start)
    if not slides:
        return None
    memory.remember_folder(Path(slides))
    folder = QFileDialog.getExistingDirectory(parent, "Folder for the study", slides)
    return (Path(slides), Path(folder)) if folder else None


def ask_backup(folder: Path, parent: QWidget) -> str | None:
    """Return the file name of the chosen backup of a study; empty if it has none."""
    oldest_first = reversed(list_backups(folder))
    backups = {backup.label: backup.path.name for backup in oldest_first}
    if not backups:
        return ""
    label = "Changes after the backup are kept in a copy only."
    chosen, is_chosen = QInputDialog.getItem(
        parent, "Restore a backup", label, [*reversed(backups)], editable=False
    )
    return backups[chosen] if is_chosen else None


def ask_features(parent: QWidget) -> Path | None:
    """Return the folder of features that somebody chose, None if nobody did."""
    start = memory.last_folder()
    folder = QFileDialog.getExistingDirectory(parent, "Folder of features", start)
    if folder:
        memory.remember_folder(Path(folder))
    return Path(folder) if folder else None


def ask_table(parent: QWidget) -> Path | None:
    """Return the table that somebody chose, None if nobody did."""
    start = memory.last_folder()
    path, _ = QFileDialog.getOpenFileName(parent, "Import a table", start, TABLES)
    if path:
        memory.remember_folder(Path(path).parent)
    return Path(path) if path else None


_NONE, _BUSY = "Open a study first", "Something is running: wait for it, or cancel it"


class StudyButtons(QWidget):
    """Buttons to make and open studies, and for the one that is open."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.new = QPushButton("New study…")
        self.open = QPushButton("Open study…")
        self.slides = QPushButton("Folder as cases…")
        self.features = QPushButton("Link features…")
        self.table = QPushButton("Import table…")
        self.export = QPushButton("Export table…")
        self.fields = QPushButton("Fields…")  # beside the study's facts
        self.restore = QPushButton("Restore…")  # there, too
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        rows = (
            (self.new, self.open, self.slides),
            (self.table, self.features, self.export),
        )
        for row, buttons in enumerate(rows):
            for place, button in enumerate(buttons):
                grid.addWidget(button, row, place)

    def refresh(self, study: Study | None, damaged: Path | None, *, busy: bool) -> None:
        """Enable the actions for the open study; `damaged` is the folder to restore, if any."""
        allow(self.new, not busy, _BUSY, "A folder for patients, slides, records and a ledger")
        allow(self.open, not busy, _BUSY, "A folder that holds a study")
        allow(self.slides, not busy, _BUSY, "A new study in which each slide of a folder is a case")
        why = _BUSY if busy else _NONE if study is None else study.read_only
        does = "CSV, TSV, XLSX, Parquet or cBioPortal; what it does is shown first"
        allow(self.table, not why, why, does)
        does = "Of TRIDENT, CLAM, STAMP, LazySlide, Slideflow; checked first, and left in place"
        allow(self.features, not why, why, does)
        allow(self.export, not why, why, "Under the names of the study, without paths")
        self.restore.setVisible(damaged is not None)
        allow(self.restore, not busy, _BUSY, f"Restore a backup of {damaged}")
        self.fields.setVisible(study is not None and not study.is_damaged)
        allow(self.fields, not why, why, "Types, units, ranges and groups of the records' fields")
