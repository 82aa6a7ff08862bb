"""Clinical schemas: typed, grouped fields of patients' records."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import MARKERS, Absent, Field, Kind
from napari_wsimil.clinical.rules import parse_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Value

#: Where the schemas lie that come with the program.
SHIPPED = Path(__file__).parents[1] / "resources" / "schemas"


@dataclass(frozen=True)
class Record:
    """A patient's values: a value or absence per schema field."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def digest(self) -> str:
        """Return SHA-256 of the values in hex, independent of order."""
        plain = {name: _plain(value) for name, value in self.values.items()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def changes(self, other: Record) -> dict[str, tuple[Value, Value]]:
        """Return old and new value of each changed field."""
        pairs = {name: (value, other[name]) for name, value in self.values.items()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class ClinicalSchema(BaseModel):
    """The fields of a study's records.

    Attributes
    ----------
    name, description
        For people.
    fields
        In the order they are shown.
    inputs
        Names of the fields a model may see. Explicit, since tables hold columns that give
        the answer away (counts of metastases, treatment); none by default.
    forced
        Names of the inputs that are known to give the answer away, and are to be seen anyway.
    absent
        Further words for the kinds of absence.
    rules
        Rules for records, such as "lymphocytes <= leukocytes"; a record that breaks one
        is kept, and marked.
    inferred
        True where a program guessed the schema from a table and no person confirmed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fields: tuple[Field, ...]  # type: ignore[assignment]  # pydantic's own name, unused since 2.0
    description: str = ""
    inputs: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    absent: dict[str, Absent] = {}
    rules: tuple[str, ...] = ()
    inferred: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names):
            raise ValueError(f"two fields are named {max(names, key=names.count)!r}")
        for field in self.fields:
            for value in field.values:
                if value.casefold() in self.markers:
                    raise ValueError(f"field {field.name!r}: {value!r} is a word for absence")
        for name in self.inputs:
            self._check_input(name)
        for rule in self.rules:
            for name in parse_rule(rule).fields():
                self._check_ruled(rule, name)
        return self

    def _check_input(self, name: str) -> None:
        field = self.by_name.get(name)
        if field is None:
            raise ValueError(f"input {name!r} is no field")
        if field.kind is Kind.DATE:
            raise ValueError(f"input {name!r} is a date: make it a number of days between two")
        if field.outcome and name not in self.forced:
            raise ValueError(
                f"input {name!r} gives the outcome away, so a model would learn nothing else: "
                "leave it out, or name it in forced too"
            )

    def _check_ruled(self, rule: str, name: str) -> None:
        if name not in self.by_name:
            raise ValueError(f"rule {rule!r}: {name!r} is no field and no number")
        if self.by_name[name].kind is not Kind.NUMBER:
            raise ValueError(f"rule {rule!r}: {name!r} is no number")

    @property
    def by_name(self) -> Mapping[str, Field]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}

    @property
    def markers(self) -> Mapping[str, Absent]:
        """The words for absence, casefolded."""
        return {
            **MARKERS,
            **{word.strip().casefold(): kind for word, kind in self.absent.items()},
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups with inputs, in field order."""
        return tuple(dict.fromkeys(f.group for f in self.fields if f.name in self.inputs))

    @property
    def leaks(self) -> tuple[str, ...]:
        """Names of the forced inputs that give the outcome away."""
        return tuple(f.name for f in self.fields if f.outcome and f.name in self.inputs)

    def inputs_of(self, group: str) -> tuple[Field, ...]:
        """Return the input fields of a group."""
        return tuple(f for f in self.fields if f.group == group and f.name in self.inputs)

    def parse(self, cells: Mapping[str, str]) -> Record:
        """Return the record in a row of text.

        A field without a column is missing.

        Raises
        ------
        RecordError
            If a cell is not valid; the message names its field and text.
        """
        markers = self.markers
        return Record({f.name: f.parse(_cell(f, cells), markers) for f in self.fields})

    def format(self, record: Record) -> dict[str, str]:
        """Return the record as text by field name, for `parse`."""
        return {field.name: field.format(record[field.name]) for field in self.fields}

    def apply(self, record: Record, changes: Mapping[str, str]) -> Record:
        """Return the record with changed fields; "missing" removes a value.

        Raises
        ------
        RecordError
            If a name is no field, or a text states none of its values.
        """
        fields, markers = self.by_name, self.markers
        for name in changes:
            if name not in fields:
                raise RecordError(f"no field {name!r} in schema {self.name}{_close(name, fields)}")
        changed = {name: fields[name].parse(text, markers) for name, text in changes.items()}
        return Record({**record.values, **changed})

    def broken(self, record: Record) -> tuple[str, ...]:
        """Return a sentence per rule that a record breaks."""
        fields = self.by_name
        sentences = (parse_rule(rule).broken(fields, record.values) for rule in self.rules)
        return tuple(sentence for sentence in sentences if sentence)


def validated(content: Mapping[str, Any], where: str) -> ClinicalSchema:
    """Return the schema in plain content.

    A RecordError begins with `where`.
    """
    try:
        return ClinicalSchema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"{where}: {place + ': ' if place else ''}{reason}") from error


#: The schema of a study that has no records yet.
NO_FIELDS = ClinicalSchema(name="none", description="no clinical fields yet", fields=())


def named_schema(name: str) -> ClinicalSchema:
    """Return a shipped schema by name, or a file's.

    Raises
    ------
    RecordError
        If there is none of this name, or the file is no valid schema.
    OSError
        If the file cannot be read.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name not in shipped and not Path(name).exists():
        raise RecordError(f"schema {name!r} is no file and none of {', '.join(shipped)}")
    return read_schema(shipped.get(name, Path(name)))


def read_schema(path: str | Path) -> ClinicalSchema:
    """Return the schema in a YAML file.

    Raises
    ------
    RecordError
        If the file is no valid schema; the message names file and problem.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise RecordError(f"{path} is not a YAML file: {problem}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} is no schema: it has no name and no fields")
    return validated(content, str(path))


def write_schema(schema: ClinicalSchema, path: str | Path) -> None:
    """Write a schema as a YAML file."""
    Path(path).write_text(schema_text(schema), encoding="utf-8")


def schema_text(schema: ClinicalSchema) -> str:
    """Return a schema as YAML, without defaults."""
    plain = schema.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.safe_dump(
        plain, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    return text


def _cell(field: Field, cells: Mapping[str, str]) -> str:
    headers = (field.name, *field.columns)
    return next((cells[header] for header in headers if header in cells), "")


def _close(name: str, fields: Mapping[str, Field]) -> str:
    near = difflib.get_close_matches(name, fields, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _plain(value: Value) -> object:
    if isinstance(value, Absent):
        return {"absent": value.value}
    return {"day": value.isoformat()} if isinstance(value, date) else value
