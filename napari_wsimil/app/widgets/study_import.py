"""ImportDialog: what the import of a table will do, and the questions it leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.app.widgets.docked import allow
from napari_wsimil.app.widgets.import_columns import ImportColumns
from napari_wsimil.app.widgets.import_questions import ImportQuestions
from napari_wsimil.study.import_report import disagreement_lines, who_lines

if TYPE_CHECKING:
    from napari_wsimil.study.import_plan import ImportPlan


#: What `exec_` returns where another sheet of the workbook is to be read.
OTHER_SHEET = 2


class ImportDialog(QDialog):
    """Shows a plan and takes answers; nothing is written, whoever accepts it does that.

    Parameters
    ----------
    plan
        Of the import.
    has_names
        Whether the study's names are pseudonyms with a key, so that the table's must be, too.

    Attributes
    ----------
    plan
        With the answers given so far.
    """

    def __init__(
        self, plan: ImportPlan, parent: QWidget | None = None, *, has_names: bool = False
    ) -> None:
        super().__init__(parent)
        self.plan = plan
        self.setWindowTitle(f"Import {plan.table.path.name}")
        screen = QApplication.primaryScreen().availableGeometry()
        self.resize(min(980, screen.width() - 40), min(680, screen.height() - 80))
        self.summary = QLabel()
        self.summary.setWordWrap(True)
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
        """Take an answer to a question, and show what the import does now."""
        answers = {k: v for k, v in self.plan.answers.items() if k != key}
        if answer:
            answers[key] = answer
        self.plan = self.plan.revised(answers)
        self._show()

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
        column.addWidget(self.tabs, 1)
        column.addWidget(self.names)
        column.addLayout(below)

    def _show(self) -> None:
        plan = self.plan
        table, open_ = plan.table, len(plan.open)
        lines = [f"<b>{len(table.rows):,} rows</b> of {len(table.columns):,} columns"]
        lines += [f"<b>{len(plan.merged.rows):,} patients</b>", f"{len(plan.fields):,} fields"]
        notes = "".join(f"<br>{note}." for note in plan.notes)
        self.summary.setText(" · ".join(lines) + notes)
        self.questions.show_plan(plan)
        self.columns.show_plan(plan)
        people = [*who_lines(plan), *disagreement_lines(plan)]
        self.people.setPlainText("\n\n".join(people))
        self.tabs.setTabText(0, f"Questions ({open_} open)" if open_ else "Questions")
        self.tabs.setTabText(1, f"Columns ({len(plan.fields)} of {len(plan.columns)})")
        why = f"{open_} questions must be answered first"
        allow(self.import_button, not open_, why, "Write the patients into the study")
