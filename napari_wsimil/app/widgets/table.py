"""Table: a few rows of words, as high as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 12  # rows that are seen without scrolling


class Table(QTableWidget):
    """Shows words; `chosen` gives the number of the row that was clicked.

    Parameters
    ----------
    tip
        What it shows and what a click does.
    """

    chosen = Signal(int)

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(tip)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.setWordWrap(False)
        self.cellClicked.connect(lambda row, _: self.chosen.emit(row))

    def fill(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows of words under their titles."""
        self.setColumnCount(len(titles))
        self.setHorizontalHeaderLabels(list(titles))
        self.setRowCount(len(rows))
        for i, row in enumerate(rows):
            for j, word in enumerate(row):
                item = QTableWidgetItem(word)
                item.setToolTip(word)
                self.setItem(i, j, item)
        head = self.horizontalHeader().sizeHint().height()
        self.setFixedHeight(head + 24 * min(max(1, len(rows)), _MOST) + 4)
