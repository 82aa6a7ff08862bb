"""Dialog with the plan of an import and its questions."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.cohort.endpoint import outcome_sentences
from napari_wsimil.cohort.table_import.plan import (
    disagreement_lines,
    field_words,
    understood,
    who_lines,
)
from napari_wsimil.cohort.table_import.questions import FIELD, NOTHING
from napari_wsimil.cohort.table_import.stages import apply_answers
from napari_wsimil.gui.docks.study.import_questions import ImportQuestions
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.dock import allow

if TYPE_CHECKING:
    from napari_wsimil.cohort.table_import.column_plan import ColumnPlan
    from napari_wsimil.cohort.table_import.plan import ImportPlan

_NONE, _OUTCOME = QColor("#8a929c"), QColor("#d55e00")

_TITLES = ("column", "becomes", "understood as")


class ImportColumns(QWidget):
    """Table of column plans; emits key and answer."""

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
        uses = {q.column: q.key for q in plan.questions if q.is_use}
        self.table.blockSignals(True)
        self.table.setRowCount(len(plan.columns))
        self._keys = {}
        for row, column in enumerate(plan.columns):
            if (key := uses.get(column.header)) is not None:
                self._keys[row] = key
            self._fill(row, column, column.header in uses)
        self.table.blockSignals(False)
        self._find(self.search.text())

    def _fill(self, row: int, column: ColumnPlan, can_choose: bool) -> None:
        becomes = field_words(column.field) if column.field else f"no field: {column.why}"
        remarks = ". ".join(understood(column)) if column.why != "empty" else ""
        for place, text in enumerate((column.header, becomes, remarks)):
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


#: Result of `exec_` if another sheet of the workbook is to be read.
OTHER_SHEET = 2


class ImportDialog(QDialog):
    """Shows the plan of an import and takes answers; writes nothing.

    Answers are applied in a thread. Those given meanwhile are applied together afterwards.

    Parameters
    ----------
    plan
        The plan of the import.
    has_names
        Whether the study's names are pseudonyms with a key, so that the table's must be, too.

    Attributes
    ----------
    plan
        With the answers given so far, but for those that are being worked out.
    busy
        Whether some are.
    """

    def __init__(
        self, plan: ImportPlan, parent: QWidget | None = None, *, has_names: bool = False
    ) -> None:
        super().__init__(parent)
        self.plan = plan
        self.busy = False
        self._answers = dict(plan.answers)
        self._latest = LatestTask(self)
        self.setWindowTitle(f"Import {NAMES.of(plan.table.path)}")
        screen = QApplication.primaryScreen().availableGeometry()
        self.resize(min(980, screen.width() - 40), min(680, screen.height() - 80))
        self.summary = QLabel()
        self.state = QLabel()
        for label in (self.summary, self.state):
            label.setWordWrap(True)
        self.state.setStyleSheet("color: #e69f00")
        self.sheet = QComboBox()
        self.sheet.addItems(plan.table.sheets)
        self.sheet.setCurrentText(plan.table.sheet)
        self.sheet.setVisible(len(plan.table.sheets) > 1)
        self.sheet.setToolTip("Which table of the file; what was answered so far is forgotten")
        self.sheet.activated.connect(lambda _: self.done(OTHER_SHEET))
        self.questions, self.columns = ImportQuestions(), ImportColumns()
        self.people = QPlainTextEdit()
        self.people.setReadOnly(True)
        self.tabs = QTabWidget()
        for part, title in (
            (self.questions, "Questions"),
            (self.columns, "Columns"),
            (self.people, "Patients and slides"),
        ):
            self.tabs.addTab(part, title)
        self.names = QCheckBox(
            "Give patients and slides pseudonyms; the key stays outside the study"
        )
        self.names.setChecked(True)
        self.names.setToolTip("Take the mark away if the table's names are pseudonyms already")
        self.why = QLineEdit(f"a table of {len(plan.table.rows)} rows")
        self.why.setToolTip("The reason, which the ledger keeps beside a hash of the file")
        if has_names:
            allow(self.names, False, "The study has pseudonyms: its patients are known by the key")
        self._lay_out()
        self.questions.answered.connect(self.answer)
        self.columns.answered.connect(self.answer)
        self._show()

    def answer(self, key: str, answer: str) -> None:
        """Apply an answer to a question, and show the new plan."""
        others = {k: v for k, v in self._answers.items() if k != key}
        self._answers = others | ({key: answer} if answer else {})
        self.busy = True
        self._tell("Working out what that changes…")
        self._latest.run(
            partial(apply_answers, self.plan.inferred, self._answers, strict=False),
            self._take,
            self._fail,
        )

    def accept(self) -> None:
        """Accept the plan, unless an answer is being applied."""
        if not self.busy:
            super().accept()

    def done(self, result: int) -> None:
        """Close; answers that are being applied are dropped."""
        self._latest.drop()
        super().done(result)

    def _take(self, plan: ImportPlan) -> None:
        self.plan, self._answers, self.busy = plan, dict(plan.answers), False
        self._show()

    def _fail(self, words: str) -> None:
        """Show the last valid plan, and the error."""
        self._take(self.plan)
        self._tell(words)

    def _tell(self, words: str) -> None:
        self.state.setText(words)
        self.state.setVisible(bool(words))
        open_ = len(self.plan.open)
        why = words if self.busy else f"{open_} questions must be answered first"
        allowed = not open_ and not self.busy
        allow(self.import_button, allowed, why, "Write the patients into the study")

    def _lay_out(self) -> None:
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
        self.import_button = self.buttons.button(kinds.Ok)
        self.import_button.setText("Import")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        below = QHBoxLayout()
        below.addWidget(QLabel("Why"))
        below.addWidget(self.why, 1)
        below.addWidget(self.buttons)
        column = QVBoxLayout(self)
        column.addWidget(self.summary)
        column.addWidget(self.sheet)
        column.addWidget(self.state)
        column.addWidget(self.tabs, 1)
        column.addWidget(self.names)
        column.addLayout(below)

    def _show(self) -> None:
        plan = self.plan
        table, open_ = plan.table, len(plan.open)
        lines = [f"<b>{len(table.rows):,} rows</b> of {len(table.columns):,} columns"]
        lines += [f"<b>{len(plan.merged.rows):,} patients</b>", f"{len(plan.fields):,} fields"]
        counts = outcome_sentences(plan.outcome_counts) if plan.timed else ()
        notes = "".join(f"<br>{html.escape(note)}." for note in (*plan.notes, *counts))
        self.summary.setText(" · ".join(lines) + notes)
        self.questions.show_plan(plan)
        self.columns.show_plan(plan)
        people = [*who_lines(plan), *disagreement_lines(plan)]
        self.people.setPlainText("\n\n".join(people))
        self.tabs.setTabText(0, f"Questions ({open_} open)" if open_ else "Questions")
        self.tabs.setTabText(1, f"Columns ({len(plan.fields)} of {len(plan.columns)})")
        self._tell("")
