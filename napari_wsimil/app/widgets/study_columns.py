"""ColumnsDialog: which fields of a cohort are columns, found by words among hundreds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_wsimil.app.cohort_view import CohortView


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
        self.all_button, self.none_button = QPushButton("Check found"), QPushButton("Uncheck found")
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
