"""RecordForm: a record to be edited, its fields in groups that fold, with a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit, QToolButton, QVBoxLayout, QWidget

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.rules import parse_rule
from napari_wsimil.clinical.schema import Record
from napari_wsimil.gui.docks.record.field import FieldRow
from napari_wsimil.gui.widgets.basic import Fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.study.case import Case

#: Fields of a schema from which groups are folded at first, their rows made when unfolded.
_MANY = 60


class RecordForm(QWidget):
    """Emits a record as its fields are edited, and when an edit is at rest.

    A text that states no value of its field is told beside it, and goes nowhere; `refused` says
    that there is one.
    """

    edited = Signal(object)
    rested = Signal()
    refused = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case: Case | None = None
        self._format: RecordFormat | None = None
        self._record: Record | None = None
        self._wrong: set[str] = set()
        self.rows: dict[str, FieldRow] = {}
        self.groups: dict[str, Fold] = {}
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a field…")
        self.search.setClearButtonEnabled(True)
        self.read_only = QCheckBox("Only model inputs")
        self.read_only.setToolTip("Hide the fields that the model does not use")
        self.read_only.setChecked(True)
        row = QHBoxLayout()
        row.addWidget(self.search, 1)
        row.addWidget(self.read_only)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addLayout(row)
        self.search.textChanged.connect(self._filter)
        self.read_only.toggled.connect(self._filter)

    @property
    def wrong(self) -> bool:
        """Whether a field has a text in it that is none of its values."""
        return bool(self._wrong)

    def show_case(self, case: Case | None, read: RecordFormat | None) -> None:
        """Lay out the fields of a case; `read` is what a model here reads of them."""
        for group in self.groups.values():
            self._column.removeWidget(group)
            group.hide()
            group.deleteLater()
        self.rows, self.groups, self._wrong = {}, {}, set()
        self._case, self._format, self._record = case, read, None
        self.read_only.setVisible(read is not None)
        fields = case.schema.fields if case is not None else ()
        for name in dict.fromkeys(field.group for field in fields):
            self._add_group(name, folded=len(fields) >= _MANY)
        self._filter()

    @property
    def record(self) -> Record | None:
        """The record as it is edited; a text that is no value is not in it."""
        return self._record

    def show_record(self, record: Record) -> None:
        """Show the values of a record in all fields, over texts that are no values too."""
        self._record, self._wrong = record, set()
        for name in self.rows:
            self._show_field(name)
        self._count()

    # build

    def _fields(self, group: str) -> list[Field]:
        assert self._case is not None
        return [field for field in self._case.schema.fields if field.group == group]

    def _add_group(self, name: str, folded: bool) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(8, 0, 0, 4)
        column.setSpacing(2)
        column.addLayout(self._build_missing(name))
        group = self.groups[name] = Fold(name, inside)
        self._column.addWidget(group)
        group.button.toggled.connect(lambda: self._add_rows(name, column))
        if not folded:
            group.open()

    def _build_missing(self, group: str) -> QHBoxLayout:
        line = QHBoxLayout()
        line.addStretch(1)
        for words, tip, act in (
            ("All missing", "Mark every field of this group as missing", self._take_away),
            ("Reset to record", "Restore the stored values of this group", self._give_back),
        ):
            button = QToolButton()
            button.setText(words)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, act=act: act(group))
            line.addWidget(button)
        return line

    def _add_rows(self, group: str, column: QVBoxLayout) -> None:
        for field in self._fields(group):
            if field.name not in self.rows:
                row = self.rows[field.name] = FieldRow(field, self._known(field))
                row.edited.connect(self._edit)
                row.rested.connect(self.rested)
                column.addWidget(row)
                self._show_field(field.name)
        self._filter()

    def _known(self, field: Field) -> NDArray[np.float64]:
        """Return the cohort's numbers of a field, none where it is of another kind."""
        assert self._case is not None
        values = (record.values[field.name] for record in self._case.cohort)
        return np.array([value for value in values if isinstance(value, float)], dtype=np.float64)

    # act

    def _edit(self, name: str, text: str) -> None:
        if self._case is None or self._record is None:
            return
        try:
            record = self._case.schema.apply(self._record, {name: text})
        except RecordError as error:
            self._wrong.add(name)
            self.rows[name].tell(str(error).partition(": ")[2], wrong=True)
            self.refused.emit()
            return
        self._wrong.discard(name)
        self._take(record)
        self._show_field(name)
        self._tell_others(name, record)

    def _take_away(self, group: str) -> None:
        self._set({field.name: Absent.MISSING for field in self._fields(group)})

    def _give_back(self, group: str) -> None:
        assert self._case is not None
        self._set({field.name: self._case.record[field.name] for field in self._fields(group)})

    def _set(self, values: dict[str, object]) -> None:
        if self._record is not None:
            record = Record({**self._record.values, **values})  # type: ignore[dict-item]
            self._take(record)
            for name in values:
                self._show_field(name)
            self.rested.emit()

    def _take(self, record: Record) -> None:
        self._record = record
        self.edited.emit(record)
        self._count()

    # show

    def _show_field(self, name: str) -> None:
        case, record = self._case, self._record
        if case is not None and record is not None and name in self.rows:
            self.rows[name].show_value(record[name], case.record[name], self._said(name, record))

    def _tell_others(self, name: str, record: Record) -> None:
        """Say again what is odd about the fields that a rule compares with an edited one."""
        assert self._case is not None
        rules = [parse_rule(rule).fields() for rule in self._case.schema.rules]
        beside = {other for fields in rules if name in fields for other in fields} - {name}
        for other in beside & self.rows.keys() - self._wrong:
            self.rows[other].tell(self._said(other, record))

    def _said(self, name: str, record: Record) -> str:
        """Return what is odd about a value: of itself, beside others, or for the model."""
        assert self._case is not None
        schema = self._case.schema
        words = [schema.by_name[name].remark(record[name])]
        words += [one for one in schema.broken(record) if name in one.split()]
        if self._format is not None and name in self._format.clinical.inputs:
            words.append(self._format.remark(name, record[name]))
        return "\n".join(filter(None, words))

    def _count(self) -> None:
        """Tell beside each group how many of its fields are not as recorded."""
        case, record = self._case, self._record
        if case is None or record is None:
            return
        changed = case.record.changes(record)
        for name, group in self.groups.items():
            fields = self._fields(name)
            edited = sum(field.name in changed for field in fields)
            absent = sum(record[field.name] is Absent.MISSING for field in fields)
            words = [f"{edited} changed"] * bool(edited) + [f"{absent} missing"] * bool(absent)
            group.button.setText(" · ".join([f"{name} ({len(fields)})", *words]))

    def _filter(self, _: object = None) -> None:
        sought = self.search.text().strip().casefold()
        read = self._read()
        for name, row in self.rows.items():
            row.setVisible(_matches(row.field, sought) and (read is None or name in read))
        found: dict[str, int] = {}
        for name, group in self.groups.items():
            fields = [f for f in self._fields(name) if read is None or f.name in read]
            found[name] = sum(_matches(field, sought) for field in fields)
            group.setVisible(found[name] > 0)
        if sought and sum(found.values()) < _MANY:
            for name in filter(found.get, found):
                self.groups[name].open()

    def _read(self) -> set[str] | None:
        """Return the names of the fields to show, None for all."""
        if self._format is None or not self.read_only.isChecked():
            return None
        return set(self._format.clinical.inputs)


def _matches(field: Field, sought: str) -> bool:
    return sought in f"{field.name} {field.description}".casefold()
