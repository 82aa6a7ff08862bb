"""StudyCohort: the patients of a study as a table to search, sort, open and correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.docks.study.cohort_model import CohortModel
from napari_wsimil.gui.docks.study.corrections import HELD, Correction
from napari_wsimil.gui.widgets.close_guard import CloseGuard
from napari_wsimil.gui.widgets.dock import allow

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.gui.docks.study.cohort_view import CohortView
    from napari_wsimil.study.predictions import Answer, Review


class ColumnsDialog(QDialog):
    """A list of all columns with check marks; `names` are those that are checked."""

    def __init__(self, view: CohortView, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Columns of the cohort")
        self.resize(420, 560)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find columns by name or group")
        self.search.setClearButtonEnabled(True)
        self.list = QListWidget()
        fields = view.schema.by_name
        for name in view.choices:
            group = fields[name].group if name in fields else "study"
            item = QListWidgetItem(f"{name}   ·   {group}")
            item.setData(Qt.ItemDataRole.UserRole, name)
            item.setCheckState(_state(name in view.columns))
            self.list.addItem(item)
        self._build()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are checked."""
        checked = (i for i in self._items() if i.checkState() == Qt.CheckState.Checked)
        return tuple(item.data(Qt.ItemDataRole.UserRole) for item in checked)

    def _build(self) -> None:
        self.all_button, self.none_button = (
            QPushButton("Select matches"),
            QPushButton("Deselect matches"),
        )
        row = QHBoxLayout()
        row.addWidget(self.all_button)
        row.addWidget(self.none_button)
        kinds = QDialogButtonBox.StandardButton
        buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        column = QVBoxLayout(self)
        column.addWidget(self.search)
        column.addWidget(self.list, 1)
        column.addLayout(row)
        column.addWidget(buttons)
        self.search.textChanged.connect(self._find)
        self.all_button.clicked.connect(lambda: self._check(True))
        self.none_button.clicked.connect(lambda: self._check(False))
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)

    def _items(self) -> list[QListWidgetItem]:
        return [self.list.item(row) for row in range(self.list.count())]

    def _find(self, words: str) -> None:
        for item in self._items():
            text = item.text().casefold()
            item.setHidden(not all(word in text for word in words.casefold().split()))

    def _check(self, checked: bool) -> None:
        for item in self._items():
            if not item.isHidden():
                item.setCheckState(_state(checked))


def _state(checked: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked


_STYLE = "QTableView { border: 2px solid #d55e00; }"

#: Rows whose words are measured for the width of a column.
_MEASURED = 25

_TRIGGERS = (
    QAbstractItemView.EditTrigger.DoubleClicked
    | QAbstractItemView.EditTrigger.EditKeyPressed
    | QAbstractItemView.EditTrigger.AnyKeyPressed
)


class StudyCohort(QWidget):
    """Emits the patient that is chosen or wanted, and what is to be corrected and why.

    `held` says that something was not done since a correction waits to be saved or discarded.
    While nothing is being corrected a double click wants a case; else it edits a field.
    """

    chosen = Signal(str)
    wanted = Signal(str)
    corrected = Signal(str, str, object, str)
    held = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = CohortModel()
        self._sorted: tuple[int, Qt.SortOrder] | None = None
        self._why_not = ""
        self._build_bar()
        self._build_table()
        self.correction = Correction()
        self._guard = CloseGuard(self.may_leave, self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addLayout(self._bar)
        column.addWidget(self.table, 1)
        column.addWidget(self.count)
        column.addWidget(self.correction)
        self._connect()
        self.show_cohort(None, "")

    def _build_bar(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find patients by any word")
        self.search.setClearButtonEnabled(True)
        self.columns_button = QPushButton("Columns…")
        self.columns_button.setToolTip("Choose which fields are columns")
        self.correct_button = QPushButton("Correct")
        self.correct_button.setCheckable(True)
        self._bar = QHBoxLayout()
        self._bar.addWidget(self.search, 1)
        self._bar.addWidget(self.columns_button)
        self._bar.addWidget(self.correct_button)
        self.count = QLabel()

    def _build_table(self) -> None:
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setMinimumHeight(260)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(False)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        names = self.table.verticalHeader()  # stay in view beside hundreds of columns
        names.setDefaultSectionSize(24)
        names.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        names.setToolTip("Double-click a patient to open the case")
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setMaximumSectionSize(220)
        header.setResizeContentsPrecision(_MEASURED)

    def _connect(self) -> None:
        self.search.textChanged.connect(self._search)
        self.columns_button.clicked.connect(self._ask_columns)
        self.correct_button.toggled.connect(self._switch)
        self.table.doubleClicked.connect(lambda index: self._want(index.row()))
        self.table.verticalHeader().sectionDoubleClicked.connect(self._want)
        self.table.selectionModel().currentChanged.connect(self._choose)
        self.table.horizontalHeader().sortIndicatorChanged.connect(self.model.sort)
        self.model.stated.connect(self.correction.ask)
        self.model.refused.connect(self.correction.refuse)
        self.correction.saved.connect(self.corrected)
        self.correction.waits.connect(self._hold)

    # act

    def show_cohort(self, view: CohortView | None, read_only: str) -> None:
        """Show a cohort, and whether it can be corrected."""
        if view is not None and self.model.view is not None:
            kept = [name for name in self.model.view.columns if name in view.choices]
            if self.model.view.schema.name == view.schema.name:
                view.show_columns(kept)
        self.model.show(view)
        self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self._search(self.search.text())
        self._fit()
        self.columns_button.setEnabled(view is not None)
        self._why_not = "Open a study first" if view is None else read_only
        if self._why_not:
            self.correction.discard()
            self.correct_button.setChecked(False)
        self._hold(self.correction.waiting)

    def may_leave(self) -> bool:
        """Return whether no correction waits; if one does, say what to do with it."""
        if not self.correction.waiting:
            return True
        self.correction.refuse(HELD)
        self.held.emit()
        return False

    def patient(self, name: str) -> Patient | None:
        """Return a patient as the table has them, None if it has none of that name."""
        patients = self.model.view.patients if self.model.view is not None else ()
        return next((patient for patient in patients if patient.name == name), None)

    def show_patient(self, patient: Patient) -> None:
        """Show a patient's new values."""
        self.model.replace(patient)

    def show_kept(self, kept: Answer | Review) -> None:
        """Show what a model said of a patient, or a person of that."""
        view = self.model.view
        first = view is not None and view.said.is_first(kept)
        self.model.take(kept)
        if first:
            self._fit()

    def show_columns(self, names: tuple[str, ...]) -> None:
        """Show these fields as columns."""
        self.model.show_columns(names)
        self.table.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self._fit()

    def refuse(self, why: str) -> None:
        """Say under the table why something was not done."""
        self.correction.refuse(why)

    def _search(self, words: str) -> None:
        self.model.search(words)
        view = self.model.view
        shown, there = (0, 0) if view is None else (len(view.rows), len(view.patients))
        self.count.setText(f"{shown:,} of {there:,} patients" if shown < there else "")
        self.count.setVisible(shown < there)

    def _fit(self) -> None:
        self.table.resizeColumnsToContents()

    def _ask_columns(self) -> None:
        if self.model.view is not None:
            dialog = ColumnsDialog(self.model.view, self)
            if dialog.exec_():
                self.show_columns(dialog.names)

    def _switch(self, correcting: bool) -> None:
        self.model.editable = correcting
        none = QAbstractItemView.EditTrigger.NoEditTriggers
        self.table.setEditTriggers(_TRIGGERS if correcting else none)
        self.table.setStyleSheet(_STYLE if correcting else "")
        self.correct_button.setText("Done" if correcting else "Correct")
        self.correction.begin(correcting)

    def _hold(self, waits: bool) -> None:
        """Stay with the correction that waits, if one does."""
        self._guard.watch(waits)
        does = "Edit the patients' own values in the table; each edit is asked why"
        why = self._why_not or HELD
        allow(self.correct_button, not (self._why_not or waits), why, does)

    def _want(self, row: int) -> None:
        if self.model.view is not None and not self.model.editable:
            self.wanted.emit(self.model.view.patient(row).name)

    def _choose(self, index: QModelIndex, _: QModelIndex) -> None:
        if self.model.view is not None and index.isValid():
            self.chosen.emit(self.model.view.patient(index.row()).name)
