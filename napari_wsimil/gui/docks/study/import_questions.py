"""Questions on a table, as drop-downs with counts."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QWidget,
)

from napari_wsimil.gui.widgets.dock import narrow

if TYPE_CHECKING:
    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.cohort.table_import.questions import ImportQuestion

_CHOOSE = "choose…"
_SHOWN = 10


class ImportQuestions(QScrollArea):
    """Drop-downs for questions, open ones first; emits key and answer."""

    answered = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.boxes: dict[str, QComboBox] = {}
        self._labels: dict[str, QLabel] = {}
        self._questions: tuple[ImportQuestion, ...] = ()

    def show_plan(self, plan: ImportPlan) -> None:
        """Show the questions of a plan and their answers."""
        questions = tuple(question for question in plan.questions if not question.is_use)
        questions = tuple(sorted(questions, key=lambda question: bool(question.default)))
        if questions != self._questions:
            self._questions = questions
            self._build(questions)
        for question in questions:
            self._mark(question, question.answer(plan.answers))

    def _build(self, questions: tuple[ImportQuestion, ...]) -> None:
        self.boxes, self._labels = {}, {}
        inside = QWidget()
        grid = QGridLayout(inside)
        grid.setColumnStretch(0, 3)
        grid.setColumnStretch(1, 2)
        must = [question for question in questions if not question.default]
        others = [question for question in questions if question.default]
        title = "Must be answered" if must else "Nothing must be answered"
        row = self._lay(grid, 0, title, must)
        row = self._lay(grid, row, "Taken for granted; change what is wrong", others)
        grid.setRowStretch(row, 1)
        self.setWidget(inside)

    def _lay(self, grid: QGridLayout, row: int, title: str, questions: list[ImportQuestion]) -> int:
        """Add questions under a title; return the next row."""
        grid.addWidget(QLabel(f"<b>{title}</b>"), row, 0, 1, 2)
        for place, question in enumerate(questions, row + 1):
            grid.addWidget(self._label(question), place, 0)
            grid.addWidget(self._box(question), place, 1)
        return row + 1 + len(questions)

    def _label(self, question: ImportQuestion) -> QLabel:
        label = self._labels[question.key] = QLabel()
        label.setWordWrap(True)
        return label

    def _box(self, question: ImportQuestion) -> QComboBox:
        box = self.boxes[question.key] = QComboBox()
        narrow(box)
        if not question.default:
            box.addItem(_CHOOSE, "")
        for option in question.options:
            count = question.counts.get(option)
            box.addItem(option if count is None else f"{option}   ({count:,})", option)
        key = question.key
        box.activated.connect(lambda index: self.answered.emit(key, box.itemData(index)))
        return box

    def _mark(self, question: ImportQuestion, answer: str) -> None:
        box = self.boxes[question.key]
        box.setCurrentIndex(box.findData(answer))
        color = "" if answer else "color: #d55e00"
        self._labels[question.key].setStyleSheet(color)
        self._labels[question.key].setText(_text(question))


def _text(question: ImportQuestion) -> str:
    shown = list(question.counts.items())[:_SHOWN]
    counts = [f"{_plain(value)}: {n:,}" for value, n in shown]
    more = " …" if len(question.counts) > _SHOWN else ""
    return _plain(question.text) + (f" <i>{', '.join(counts)}{more}</i>" if counts else "")


def _plain(text: str) -> str:
    return html.escape(text, quote=False)
