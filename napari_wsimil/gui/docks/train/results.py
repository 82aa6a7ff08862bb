"""ResultsBox: how a trained model does, patient by patient, and what to do with it."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.docks.train.plots import ConfusionAndRoc

if TYPE_CHECKING:
    from napari_wsimil.training.evaluation import PatientResult, Results
    from napari_wsimil.training.metrics import Interval
    from napari_wsimil.training.train import Trained

Value = TypeVar("Value")

_OF = {
    "test": "<b>{0} test {1}</b>, which training never saw",
    "validation": "<b>No test {1}</b>: these {0} chose the weights, so the numbers flatter",
}
_NOBODY = "Every patient trained: there is nobody to tell how good the model is."
_NAMES = {"auc": "AUC", "macro_f1": "macro-F1", "c_index": "c-index"}


class ResultsBox(QWidget):
    """Metrics with intervals, ROC and confusion, and a table of patients that opens slides."""

    slide_wanted = Signal(Path)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._patients: tuple[PatientResult, ...] = ()
        self._one = "patient"
        self.said = QLabel("Nothing is trained yet.")
        self.said.setWordWrap(True)
        self.figure = ConfusionAndRoc()
        self.names = QCheckBox("Show names")
        self.names.setToolTip("Names can tell who a patient is: they are hidden unless asked for")
        self.table = _table()
        self.use_button = QPushButton("Use in viewer")
        self.save_button = QPushButton("Save run…")
        buttons = QHBoxLayout()
        buttons.addWidget(self.use_button)
        buttons.addWidget(self.save_button)
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        for widget in (self.said, self.figure, self.names, self.table):
            inside.addWidget(widget)
        inside.addLayout(buttons)
        self.names.toggled.connect(self._name_patients)
        self.table.itemDoubleClicked.connect(self._want_slide)
        self.clear()

    def clear(self) -> None:
        """Show nothing, as before the first training."""
        self._patients = ()
        self.said.setText("Nothing is trained yet.")
        for widget in (self.figure, self.names, self.table, self.use_button):
            widget.hide()

    def show_trained(self, trained: Trained) -> None:
        """Show the results of a training that came to its end."""
        results = trained.results
        self.said.setText(_NOBODY if results is None else _summary(results))
        self.use_button.show()
        self._patients = () if results is None else results.patients
        for widget in (self.names, self.table):
            widget.setVisible(results is not None)
        self.figure.setVisible(results is not None and results.confusion is not None)
        if results is not None:
            self.figure.show_results(results)
            self._fill(results)

    def _fill(self, results: Results) -> None:
        self.table.setSortingEnabled(False)
        self._one = results.unit.removesuffix("s")
        columns = [self._one, "truth", "model", *(f"P({name})" for name in _told(results.outcomes))]
        self.table.setColumnCount(len(columns))
        self.table.setHorizontalHeaderLabels(columns)
        self.table.setRowCount(len(results.patients))
        for row, one in enumerate(results.patients):
            self._fill_row(row, one)
        self._name_patients()
        self.table.setSortingEnabled(True)

    def _fill_row(self, row: int, one: PatientResult) -> None:
        tip = "Double-click to open the slide" if one.slide else "The cohort names no slide of it"
        items = [_Number(row + 1, ""), QTableWidgetItem(one.truth), QTableWidgetItem(one.answer)]
        items += [_Number(chance, f"{chance:.3f}") for chance in _told(one.chances)]
        for column, item in enumerate(items):
            item.setToolTip(tip)
            item.setData(Qt.ItemDataRole.UserRole + 1, row)
            self.table.setItem(row, column, item)
        if one.right is False:
            items[2].setText(f"✗ {one.answer}")

    def _name_patients(self) -> None:
        for row in range(self.table.rowCount()):
            item = self.table.item(row, 0)
            number = self._index(item)
            known = self.names.isChecked()
            item.setText(self._patients[number].patient if known else f"{self._one} {number + 1}")

    def _index(self, item: QTableWidgetItem) -> int:
        return int(item.data(Qt.ItemDataRole.UserRole + 1))

    def _want_slide(self, item: QTableWidgetItem) -> None:
        slide = self._patients[self._index(item)].slide
        if slide is not None:
            self.slide_wanted.emit(slide)


class _Number(QTableWidgetItem):
    """A cell that is sorted by a number, whatever it shows."""

    def __init__(self, number: float, text: str) -> None:
        super().__init__(text)
        self._number = number

    def __lt__(self, other: QTableWidgetItem) -> bool:
        return self._number < getattr(other, "_number", math.inf)


def _told(of_outcomes: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return what is told of outcomes: of two the second, since the first says the same."""
    return of_outcomes[1:] if len(of_outcomes) == 2 else of_outcomes


def _table() -> QTableWidget:
    table = QTableWidget()
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.setMinimumHeight(180)
    return table


def _summary(results: Results) -> str:
    lines = [_OF[results.of].format(len(results.patients), results.unit)]
    for name, one in results.metrics.items():
        title = _NAMES.get(name, name.replace("_", " "))
        lines.append(f"{title} {_words(one)}")
    lines += [html.escape(note, quote=False) for note in results.notes]
    return "<br>".join(lines)


def _words(one: Interval) -> str:
    """Return a metric with its interval, or why there is none."""
    reason = html.escape(one.reason, quote=False)
    if not one.is_defined:
        return f"not defined: {reason}"
    if not one.has_bounds:
        return f"<b>{one.value:.3f}</b> ({reason})"
    return f"<b>{one.value:.3f}</b> (95 %: {one.low:.3f} to {one.high:.3f})"
