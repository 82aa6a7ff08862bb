"""Clinical schemas: typed and grouped fields of patient records."""

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

#: Folder of the schemas that are part of the package.
SHIPPED = Path(__file__).parents[1] / "resources" / "schemas"


@dataclass(frozen=True)
class Record:
    """Clinical values of a patient: value or absence per field."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def digest(self) -> str:
        """Return SHA-256 of the values in hex, in any order."""
        plain = {name: _plain(value) for name, value in self.values.items()}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def changes(self, other: Record) -> dict[str, tuple[Value, Value]]:
        """Return old and new value of each field that differs."""
        pairs = {name: (value, other[name]) for name, value in self.values.items()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class ClinicalSchema(BaseModel):
    """Fields, model inputs and rules of a study's records.

    A schema describes every field of a clinical record: its kind, unit, range and group. It
    turns a row of a table into a validated `Record`, and names the fields that a model may
    use. Fields of a group, such as all blood values, become one token of the model.

    Example: a schema with the number `ldh` (U/L, 0 to 5000) in the group `blood` and
    `inputs: [ldh]` reads the cell "240" as 240.0, rejects "-3", and gives models one token.

    Attributes
    ----------
    name, description
        Texts to display.
    fields
        Fields in the order of display.
    inputs
        Names of the fields that a model may use; none by default. They are explicit because
        tables contain columns that reveal the outcome (number of metastases, treatment).
    forced
        Names of inputs that reveal the outcome and are used anyway.
    absent
        Further words for the kinds of absence.
    rules
        Rules for records, such as "lymphocytes <= leukocytes". A record that violates one
        is accepted and marked.
    inferred
        True if the schema was inferred from a table and not confirmed by a person.
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
            raise ValueError(f"two fields have the name {max(names, key=names.count)!r}")
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
            raise ValueError(f"input {name!r} is not a field")
        if field.kind is Kind.DATE:
            raise ValueError(f"input {name!r} is a date: use the number of days between two dates")
        if field.outcome and name not in self.forced:
            raise ValueError(
                f"input {name!r} reveals the outcome, so a model would learn nothing else: "
                "remove it, or add it to forced"
            )

    def _check_ruled(self, rule: str, name: str) -> None:
        if name not in self.by_name:
            raise ValueError(f"rule {rule!r}: {name!r} is neither a field nor a number")
        if self.by_name[name].kind is not Kind.NUMBER:
            raise ValueError(f"rule {rule!r}: field {name!r} is not a number")

    @property
    def by_name(self) -> Mapping[str, Field]:
        """Fields by name."""
        return {field.name: field for field in self.fields}

    @property
    def markers(self) -> Mapping[str, Absent]:
        """Words for absence, casefolded."""
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
        """Names of inputs that reveal the outcome."""
        return tuple(f.name for f in self.fields if f.outcome and f.name in self.inputs)

    def inputs_of(self, group: str) -> tuple[Field, ...]:
        """Return the input fields of a group."""
        return tuple(f for f in self.fields if f.group == group and f.name in self.inputs)

    def parse(self, cells: Mapping[str, str]) -> Record:
        """Parse a table row, text by header, to a record.

        A field without a column is missing.

        Raises
        ------
        RecordError
            If a cell is invalid; the message names its field and text.
        """
        markers = self.markers
        return Record({f.name: f.parse(_cell(f, cells), markers) for f in self.fields})

    def format(self, record: Record) -> dict[str, str]:
        """Return a record as text by field, readable by `parse`."""
        return {field.name: field.format(record[field.name]) for field in self.fields}

    def apply(self, record: Record, changes: Mapping[str, str]) -> Record:
        """Return the record with changed fields; "missing" removes a value.

        Raises
        ------
        RecordError
            If a field does not exist, or a text is not a valid value of it.
        """
        fields, markers = self.by_name, self.markers
        for name in changes:
            if name not in fields:
                raise RecordError(f"no field {name!r} in schema {self.name}{_close(name, fields)}")
        changed = {name: fields[name].parse(text, markers) for name, text in changes.items()}
        return Record({**record.values, **changed})

    def broken(self, record: Record) -> tuple[str, ...]:
        """Return a sentence per rule that a record violates."""
        fields = self.by_name
        sentences = (parse_rule(rule).broken(fields, record.values) for rule in self.rules)
        return tuple(sentence for sentence in sentences if sentence)


def validated(content: Mapping[str, Any], where: str) -> ClinicalSchema:
    """Validate plain content as a schema.

    Raises
    ------
    RecordError
        If the content is invalid; the message starts with `where`.
    """
    try:
        return ClinicalSchema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"{where}: {place + ': ' if place else ''}{reason}") from error


#: Schema of a study without records.
NO_FIELDS = ClinicalSchema(name="none", description="no clinical fields yet", fields=())


def named_schema(name: str) -> ClinicalSchema:
    """Return a schema of the package, or of a file.

    Raises
    ------
    RecordError
        If there is neither schema nor file of this name, or the file is not a valid schema.
    OSError
        If the file cannot be read.
    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name not in shipped and not Path(name).exists():
        raise RecordError(f"schema {name!r} is neither a file nor one of {', '.join(shipped)}")
    return read_schema(shipped.get(name, Path(name)))


def read_schema(path: str | Path) -> ClinicalSchema:
    """Read a schema from a YAML file.

    Raises
    ------
    RecordError
        If the file is not a valid schema; the message names file and problem.
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
        raise RecordError(f"{path} is not a schema: it must have a name and fields")
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
