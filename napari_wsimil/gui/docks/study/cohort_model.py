"""CohortModel: a cohort's rows and columns for Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QFont

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.gui.docks.study.cohort_view import CohortView
    from napari_wsimil.study.predictions import Answer, Review

_ABSENT, _ODD = QColor("#8a929c"), QColor("#d55e00")
_NOWHERE = QModelIndex()


class CohortModel(QAbstractTableModel):
    """Shows a `CohortView`; an edit is not taken but told: `stated`, or `refused` with why.

    Attributes
    ----------
    editable
        Whether fields may be edited.
    """

    stated = Signal(str, str, object)
    refused = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.view: CohortView | None = None
        self.editable = False

    # what Qt asks

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many patients are shown."""
        return 0 if self.view is None or parent.isValid() else len(self.view.rows)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return how many columns are shown."""
        return 0 if self.view is None or parent.isValid() else len(self.view.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, tooltip or color of a cell."""
        if self.view is None or not index.isValid():
            return None
        cell = self.view.cell(index.row(), index.column())
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            missing = cell.absent and not cell.text and role == Qt.ItemDataRole.DisplayRole
            return "–" if missing else cell.text
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{cell.text}: {cell.why}" if cell.why and not cell.absent else cell.why
        if role == Qt.ItemDataRole.ForegroundRole and (cell.absent or cell.why):
            return QBrush(_ABSENT if cell.absent else _ODD)
        if role == Qt.ItemDataRole.FontRole and cell.absent:
            font = QFont()
            font.setItalic(True)
            return font
        return None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the title of a column and what it is about, and the patient of a row."""
        if self.view is None:
            return None
        if orientation != Qt.Orientation.Horizontal:
            shown = role == Qt.ItemDataRole.DisplayRole
            return self.view.patient(section).name if shown else None
        field = self.view.field(section)
        if role == Qt.ItemDataRole.DisplayRole:
            return self.view.title(section)
        if role == Qt.ItemDataRole.ToolTipRole and field is not None:
            leak = " (follows the outcome)" if field.outcome else ""
            return f"{field.group}: {field.description or field.name}{leak}"
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Return whether a cell may be edited."""
        flags = super().flags(index)
        if self.editable and self.view is not None and self.view.field(index.column()) is not None:
            return flags | Qt.ItemFlag.ItemIsEditable
        return flags

    def setData(self, index: QModelIndex, text: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Tell what somebody wrote into a cell, parsed through the schema; nothing is changed."""
        field = self.view.field(index.column()) if self.view is not None else None
        if self.view is None or field is None or role != Qt.ItemDataRole.EditRole:
            return False
        patient = self.view.patient(index.row())
        try:
            value: Value = field.parse(str(text), self.view.schema.markers)
        except RecordError as error:
            self.refused.emit(str(error))
            return False
        if patient.record is None or patient.record[field.name] != value:
            self.stated.emit(patient.name, field.name, value)
        return False

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        if self.view is not None and 0 <= column < len(self.view.columns):
            self.layoutAboutToBeChanged.emit()
            self.view.sort(column, falling=order == Qt.SortOrder.DescendingOrder)
            self.layoutChanged.emit()

    # what the dock does

    def show(self, view: CohortView | None) -> None:
        """Show another cohort."""
        self.beginResetModel()
        self.view = view
        self.endResetModel()

    def show_columns(self, names: Sequence[str]) -> None:
        """Show these columns."""
        if self.view is not None:
            self.beginResetModel()
            self.view.show_columns(names)
            self.endResetModel()

    def search(self, words: str) -> None:
        """Show the patients with some words."""
        if self.view is not None:
            self.beginResetModel()
            self.view.search(words)
            self.endResetModel()

    def take(self, kept: Answer | Review) -> None:
        """Show an answer or a review of a patient; the first of all in a column that is new."""
        if self.view is None:
            return
        if self.view.said.is_first(kept):
            self.beginResetModel()
            self.view.take(kept)
            self.endResetModel()
        else:
            self._show_row(self.view.take(kept))

    def replace(self, patient: Patient) -> None:
        """Show a patient's new values."""
        self._show_row(self.view.replace(patient) if self.view is not None else None)

    def _show_row(self, row: int | None) -> None:
        if row is not None:
            last = self.columnCount() - 1
            self.dataChanged.emit(self.index(row, 0), self.index(row, last))
