"""StudyButtons: what can be done with studies and tables, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_wsimil.app.widgets.docked import allow

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.study.create_study import Study

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
