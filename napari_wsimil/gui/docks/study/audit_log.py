"""StudyLedger: what was done to a study and what left it, newest first, and whether it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.widgets.basic import Table
from napari_wsimil.workflows.study import chain_job, runs_job

if TYPE_CHECKING:
    from napari_wsimil.progress import Work
    from napari_wsimil.study.audit_log import Entry
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.training_runs import Run
    from napari_wsimil.workflows.study import Chain

_NONE = "No model was trained on this study yet, or none that it knows of."

_RUN_TITLES = ("trained", "model", "file", "patients", "figures")


class StudyRuns(QWidget):
    """A table of runs: when, which method, its file, on how many patients, and how it did."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel(_NONE)
        self.words.setWordWrap(True)
        self.table = Table("Models that were trained on patients of this study")
        header = self.table.horizontalHeader()
        header.setMaximumSectionSize(110)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addWidget(self.words)
        column.addWidget(self.table)
        column.addStretch(1)

    def job(self, study: Study) -> Work[tuple[Run, ...]]:
        """Return what reads the runs of a study."""
        return runs_job(study)

    def show_found(self, runs: tuple[Run, ...]) -> None:
        """Show runs."""
        self.words.setVisible(not runs)
        self.table.setVisible(bool(runs))
        self.table.fill(_RUN_TITLES, [_run_cells(run) for run in reversed(runs)])


def _run_cells(run: Run) -> tuple[str, ...]:
    figures = ", ".join(
        f"{name} not defined" if value is None else f"{name} {value:.3g}"
        for name, value in run.figures.items()
    )
    when = run.when.astimezone().strftime("%Y-%m-%d")
    return when, run.method, run.name.removesuffix(".safetensors"), f"{run.patients:,}", figures


_TITLES = ("when", "what", "patient", "field", "change", "why", "who")

_LONG = 60

_MEASURED = 25  # rows, for the width of a column

_NOWHERE = QModelIndex()


class LedgerModel(QAbstractTableModel):
    """Entries of a ledger for Qt."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[Entry, ...] = ()
        self._rows: list[Entry] = []

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many entries are shown."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(_TITLES)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the title of a column."""
        shown = orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return _TITLES[section] if shown else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what an entry says in a column; all of it as the tooltip."""
        if not index.isValid():
            return None
        text = _cells(self._rows[index.row()])[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            line = " ".join(text.split())
            return line if len(line) <= _LONG else f"{line[:_LONG]}…"
        return text[:2000] if role == Qt.ItemDataRole.ToolTipRole else None

    def show(self, entries: tuple[Entry, ...]) -> None:
        """Show entries."""
        self._entries = entries
        self.search("")

    def search(self, words: str) -> None:
        """Show the entries with some words."""
        wanted = words.casefold().split()
        self.beginResetModel()
        self._rows = [
            entry
            for entry in self._entries
            if not wanted or all(w in "\n".join(_cells(entry)).casefold() for w in wanted)
        ]
        self.endResetModel()


class StudyLedger(QWidget):
    """A table of the ledger's entries, and a sentence on their chain."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = LedgerModel()
        self.state = QLabel("Open a study first.")
        self.state.setWordWrap(True)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find entries by any word")
        self.search.setClearButtonEnabled(True)
        self.check_button = QPushButton("Check again")
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setMinimumHeight(260)
        self.table.setWordWrap(False)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        self.table.horizontalHeader().setMaximumSectionSize(220)
        self.table.horizontalHeader().setResizeContentsPrecision(_MEASURED)
        row = QHBoxLayout()
        row.addWidget(self.search, 1)
        row.addWidget(self.check_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addLayout(row)
        column.addWidget(self.table, 1)
        column.addWidget(self.state)
        self.search.textChanged.connect(self.model.search)

    def job(self, study: Study) -> Work[Chain]:
        """Return what reads the ledger of a study and checks its chain."""
        return chain_job(study)

    def show_found(self, chain: Chain) -> None:
        """Show a ledger."""
        self.model.show(chain.entries)
        self.model.search(self.search.text())
        self.table.resizeColumnsToContents()
        holds = f"The chain of {len(chain.entries):,} entries holds: no sign of tampering."
        self.state.setText(f"<b>The chain is broken</b>: {chain.fault}." if chain.fault else holds)
        self.state.setStyleSheet("color: #d55e00" if chain.fault else "")


def _cells(entry: Entry) -> tuple[str, ...]:
    change = f"{entry.old or '–'} → {entry.new or '–'}" if entry.field else entry.destination
    when = entry.when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return when, entry.act.value, entry.patient, entry.field, change, entry.why, entry.who
