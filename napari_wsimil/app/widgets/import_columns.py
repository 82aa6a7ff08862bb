"""ImportColumns: what each column of a table becomes, with a check mark to leave it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.cohort.table_import.column_plan import FIELD, NOTHING, is_use
from napari_wsimil.cohort.table_import.summary import field_words, understood

if TYPE_CHECKING:
    from napari_wsimil.cohort.table_import.column_plan import Column
    from napari_wsimil.cohort.table_import.plan import ImportPlan

_NONE, _OUTCOME = QColor("#8a929c"), QColor("#d55e00")
_TITLES = ("column", "becomes", "understood as")


class ImportColumns(QWidget):
    """Emits key and answer of the question what a column becomes."""

    answered = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find columns by any word")
        self.search.setClearButtonEnabled(True)
        self.table = QTableWidget()
        self.table.setColumnCount(len(_TITLES))
        self.table.setHorizontalHeaderLabels(list(_TITLES))
        self.table.verticalHeader().hide()
        self.table.setWordWrap(True)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        column = QVBoxLayout(self)
        column.addWidget(self.search)
        column.addWidget(self.table, 1)
        self._keys: dict[int, str] = {}
        self.table.itemChanged.connect(self._tell)
        self.search.textChanged.connect(self._find)

    def show_plan(self, plan: ImportPlan) -> None:
        """Show the columns of a plan."""
        uses = {q.column: q.key for q in plan.questions if is_use(q)}
        self.table.blockSignals(True)
        self.table.setRowCount(len(plan.columns))
        self._keys = {}
        for row, column in enumerate(plan.columns):
            if (key := uses.get(column.header)) is not None:
                self._keys[row] = key
            self._fill(row, column, column.header in uses)
        self.table.blockSignals(False)
        self._find(self.search.text())

    def _fill(self, row: int, column: Column, can_choose: bool) -> None:
        becomes = field_words(column.field) if column.field else f"no field: {column.why}"
        said = ". ".join(understood(column)) if column.why != "empty" else ""
        for place, text in enumerate((column.header, becomes, said)):
            item = QTableWidgetItem(text)
            item.setToolTip(text)
            if place == 0 and can_choose:
                state = Qt.CheckState.Checked if column.field else Qt.CheckState.Unchecked
                item.setCheckState(state)
            if column.field is None:
                item.setForeground(_NONE)
            elif column.field.outcome and place == 1:
                item.setForeground(_OUTCOME)
            self.table.setItem(row, place, item)

    def _tell(self, item: QTableWidgetItem) -> None:
        key = self._keys.get(item.row())
        if key is not None and item.column() == 0:
            checked = item.checkState() == Qt.CheckState.Checked
            self.answered.emit(key, FIELD if checked else NOTHING)

    def _find(self, words: str) -> None:
        wanted = words.casefold().split()
        for row in range(self.table.rowCount()):
            cells = (self.table.item(row, place) for place in range(len(_TITLES)))
            text = "\n".join(cell.text() for cell in cells if cell is not None).casefold()
            self.table.setRowHidden(row, not all(word in text for word in wanted))
