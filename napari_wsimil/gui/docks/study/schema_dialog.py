"""SchemaDialog: the fields of a study as a table that people edit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError
from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import validated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.clinical.schema import ClinicalSchema


#: What the columns of a row are.
TITLES = (
    "field",
    "kind",
    "group",
    "unit",
    "possible",
    "plausible",
    "normal",
    "values",
    "input",
    "outcome",
    "description",
)

#: What a field may be to a model, and whether it follows the outcome.
INPUTS = ("no", "yes", "forced")

OUTCOMES = ("no", "yes")

KINDS = {("flag" if kind is Kind.BOOLEAN else kind.value): kind for kind in Kind}

_WORDS = {kind: word for word, kind in KINDS.items()}

_RANGE = re.compile(r"\s*(\S+)\s+to\s+(\S+)\s*")


def rows_of(schema: ClinicalSchema) -> list[list[str]]:
    """Return a row of words per field, under `TITLES`."""
    return [_row(field, schema) for field in schema.fields]


def new_row(name: str) -> list[str]:
    """Return the row of a new field: a number of a group of its own."""
    return [name, _WORDS[Kind.NUMBER], "clinical", "", "", "", "", "", "no", "no", ""]


def schema_of(
    rows: Sequence[Sequence[str]], rules: Sequence[str], before: ClinicalSchema
) -> ClinicalSchema:
    """Return the schema that rows of words state.

    Parameters
    ----------
    rows
        Under `TITLES`.
    rules
        One each, such as "lymphocytes <= leukocytes".
    before
        What the rows were made of: its name and its fields' other headers stay.

    Raises
    ------
    RecordError
        If they state none; the message names field and what is wrong.
    """
    known = before.by_name
    fields = [_field(row, known.get(row[0].strip())) for row in rows]
    words = {row[0].strip(): row[TITLES.index("input")] for row in rows}
    content = before.model_dump() | {
        "fields": [field.model_dump() for field in fields],
        "inputs": [name for name, word in words.items() if word != INPUTS[0]],
        "forced": [name for name, word in words.items() if word == INPUTS[2]],
        "rules": [rule.strip() for rule in rules if rule.strip()],
        "inferred": False,
    }
    return validated(content, "schema")


def _row(field: Field, schema: ClinicalSchema) -> list[str]:
    forced = field.name in schema.forced
    used = INPUTS[2] if forced else INPUTS[field.name in schema.inputs]
    ranges = [_range_text(limits) for limits in (field.hard, field.plausible, field.normal)]
    return [
        field.name,
        _WORDS[field.kind],
        field.group,
        field.unit,
        *ranges,
        " | ".join(field.values),
        used,
        OUTCOMES[field.outcome],
        field.description,
    ]


def _field(row: Sequence[str], before: Field | None) -> Field:
    said = {title: text.strip() for title, text in zip(TITLES, row, strict=True)}
    name = said["field"]
    if not name:
        raise RecordError("a field has no name")
    try:
        return Field(
            name=name,
            kind=KINDS[said["kind"]],
            group=said["group"] or "clinical",
            unit=said["unit"],
            hard=_range(name, "possible", said["possible"]),
            plausible=_range(name, "plausible", said["plausible"]),
            normal=_range(name, "normal", said["normal"]),
            values=tuple(v.strip() for v in said["values"].split("|") if v.strip()),
            description=said["description"],
            columns=() if before is None else before.columns,
            outcome=said["outcome"] == OUTCOMES[1],
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecordError(reason) from error


def _range_text(limits: tuple[float, float] | None) -> str:
    return "" if limits is None else f"{limits[0]:g} to {limits[1]:g}"


def _range(name: str, what: str, text: str) -> tuple[float, float] | None:
    if not text:
        return None
    match = _RANGE.fullmatch(text)
    try:
        if match is not None:
            return float(match[1]), float(match[2])
    except ValueError:
        pass
    raise RecordError(f"field {name!r}: {what} {text!r} is not LOW to HIGH, such as 0 to 120")


_TIPS = {
    "possible": "LOW to HIGH: what lies outside is refused",
    "plausible": "LOW to HIGH: what lies outside is marked; sliders cover it",
    "normal": "LOW to HIGH: of the healthy, shown to people",
    "values": "Categories, with | between; lowest first where they have an order",
    "input": "Whether models may see it; forced lets one in that gives the outcome away",
    "outcome": "Whether it defines what models are to find out, or follows from it",
    "group": "A model that reads records sees one token per group",
}

_CHOICES = {"kind": tuple(KINDS), "input": INPUTS, "outcome": OUTCOMES}

_WIDTHS = (170, 80, 100, 80, 90, 100, 90, 180, 60, 70, 260)


class SchemaDialog(QDialog):
    """Edits a schema; what cannot be is said under the table and not accepted.

    Attributes
    ----------
    schema
        As it was accepted, or as it was.
    """

    def __init__(self, schema: ClinicalSchema, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.schema = self._before = schema
        self.setWindowTitle("Fields of the study")
        screen = QApplication.primaryScreen().availableGeometry()
        self.resize(min(1240, screen.width() - 40), min(640, screen.height() - 80))
        self._build_table()
        self._build_rest()
        for row in rows_of(schema):
            self._append(row)
        self.rules.setPlainText("\n".join(schema.rules))

    def accept(self) -> None:
        """Take the schema if it can be and a reason is given, else say what is wrong."""
        try:
            self.schema = schema_of(self.rows, self.rules.toPlainText().splitlines(), self._before)
        except RecordError as error:
            self.problem.setText(str(error))
            return
        if self.schema == self._before:
            self.reject()
        elif not self.why.text().strip():
            self.problem.setText("Say why the fields are changed: the ledger keeps it.")
        else:
            super().accept()

    @property
    def rows(self) -> list[list[str]]:
        """The words of the table."""
        return [
            [self.table.item(row, place).text() for place in range(len(TITLES))]
            for row in range(self.table.rowCount())
        ]

    def _build_table(self) -> None:
        self.table = QTableWidget()
        self.table.setColumnCount(len(TITLES))
        self.table.setHorizontalHeaderLabels(list(TITLES))
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectItems)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for place, (title, width) in enumerate(zip(TITLES, _WIDTHS, strict=True)):
            self.table.setColumnWidth(place, width)
            self.table.horizontalHeaderItem(place).setToolTip(_TIPS.get(title, ""))
            if title in _CHOICES:
                self.table.setItemDelegateForColumn(place, _Choice(_CHOICES[title], self))

    def _build_rest(self) -> None:
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find fields by any word")
        self.search.setClearButtonEnabled(True)
        self.add_button, self.remove_button = QPushButton("Add field"), QPushButton("Remove field")
        self.remove_button.setToolTip("Its values are kept unseen, and come back with it")
        self.rules = QPlainTextEdit()
        self.rules.setPlaceholderText("Rules, one a line: lymphocytes <= leukocytes")
        self.rules.setFixedHeight(64)
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.setStyleSheet("color: #d55e00")
        self.why = QLineEdit()
        self.why.setPlaceholderText("Why? (kept in the ledger)")
        kinds = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kinds.Save | kinds.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.add_button.clicked.connect(self._add)
        self.remove_button.clicked.connect(self._remove)
        self.search.textChanged.connect(self._find)
        above, below = QHBoxLayout(), QHBoxLayout()
        for part in (self.search, self.add_button, self.remove_button):
            above.addWidget(part)
        for part in (self.why, self.buttons):
            below.addWidget(part)
        column = QVBoxLayout(self)
        column.addLayout(above)
        column.addWidget(self.table, 1)
        column.addWidget(self.rules)
        column.addWidget(self.problem)
        column.addLayout(below)

    def _append(self, words: Sequence[str], is_new: bool = False) -> None:
        row = self.table.rowCount()
        self.table.insertRow(row)
        for place, word in enumerate(words):
            item = QTableWidgetItem(word)
            if place == 0 and not is_new:  # values are kept under it
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            self.table.setItem(row, place, item)

    def _add(self) -> None:
        names = {row[0] for row in self.rows}
        name = next(n for i in range(1, len(names) + 2) if (n := f"field {i}") not in names)
        self._append(new_row(name), is_new=True)
        self.table.setCurrentCell(self.table.rowCount() - 1, 0)
        self.table.editItem(self.table.currentItem())

    def _remove(self) -> None:
        if self.table.currentRow() >= 0:
            self.table.removeRow(self.table.currentRow())

    def _find(self, words: str) -> None:
        wanted = words.casefold().split()
        for row, cells in enumerate(self.rows):
            text = "\n".join(cells).casefold()
            self.table.setRowHidden(row, not all(word in text for word in wanted))


class _Choice(QStyledItemDelegate):
    """Edits a cell by choosing one of some words."""

    def __init__(self, words: tuple[str, ...], parent: QWidget) -> None:
        super().__init__(parent)
        self._words = words

    def createEditor(
        self, parent: QWidget, option: QStyleOptionViewItem, index: QModelIndex
    ) -> QWidget:
        box = QComboBox(parent)
        box.addItems(self._words)
        box.activated.connect(lambda _: self.commitData.emit(box))
        return box

    def setEditorData(self, editor: QComboBox, index: QModelIndex) -> None:
        editor.setCurrentText(index.data())

    def setModelData(self, editor: QComboBox, model: QTableWidget, index: QModelIndex) -> None:
        model.setData(index, editor.currentText())
