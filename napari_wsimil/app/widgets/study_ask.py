"""Study questions: the dialogs that ask where studies, slides and tables are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_wsimil.app import memory
from napari_wsimil.app.study_words import backup_label
from napari_wsimil.app.widgets.study_export import ExportDialog
from napari_wsimil.app.widgets.study_new import NewStudyDialog
from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
from napari_wsimil.study.backups import list_backups

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.endpoint import Endpoint
    from napari_wsimil.study.create_study import Unit

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
    backups = {backup_label(backup): backup.path.name for backup in oldest_first}
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
