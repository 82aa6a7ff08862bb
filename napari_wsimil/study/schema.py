"""ClinicalSchema: the typed, grouped fields of a patient's record.

A cell of a record is a value or one of three kinds of absence, which are never mixed up.
In text they are written

- an empty cell: *missing*, nobody wrote anything down;
- `unknown`: somebody asked, and the answer is not known;
- `not applicable`: the question has no answer for this patient.

Case does not matter. A source's other words (`'--` of the GDC, `not reported`) are declared
in the schema's `absent` table. `NA` is not taken for any of them unless declared, since
people mean both "not available" and "not applicable" by it.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Absent(Enum):
    """Why a record has no value."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"


#: A number, a category's name, a yes or no, or why there is none.
Value: TypeAlias = float | str | bool | Absent

#: How absence is written in text, casefolded; a schema may add words.
MARKERS: Mapping[str, Absent] = {
    "": Absent.MISSING,
    "unknown": Absent.UNKNOWN,
    "not applicable": Absent.NOT_APPLICABLE,
}

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(StrEnum):
    """What the values of a field are."""

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    ORDINAL = "ordinal"  # categories with an order, lowest first


class Field(BaseModel):
    """One field of a record.

    Attributes
    ----------
    name
        Short name, unique in its schema.
    kind
        What its values are.
    group
        The group it belongs to; a model sees one token per group.
    unit
        Unit of a number, as shown to people.
    plausible
        Lowest and highest number taken for real; others are refused.
    normal
        Lowest and highest number of the healthy, as shown to people.
    values
        The allowed categories, in order where the kind is ordinal.
    description
        One sentence for people.
    columns
        Other headers under which tables have this field, beside its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    group: str
    unit: str = ""
    plausible: tuple[float, float] | None = None
    normal: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    description: str = ""
    columns: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        categorical = self.kind in (Kind.CATEGORY, Kind.ORDINAL)
        if categorical != bool(self.values):
            need = "needs a list of values" if categorical else "takes no list of values"
            raise ValueError(f"field {self.name!r} is a {self.kind.value}, which {need}")
        if len({value.casefold() for value in self.values}) < len(self.values):
            raise ValueError(f"field {self.name!r} has a value twice (case does not matter)")
        for limits in filter(None, (self.plausible, self.normal)):
            if self.kind is not Kind.NUMBER or limits[0] > limits[1]:
                raise ValueError(f"field {self.name!r}: {limits} is no range of a number")
        return self

    def parse(self, text: str, markers: Mapping[str, Absent] = MARKERS) -> Value:
        """Return the value that `text` states.

        Raises
        ------
        RecordError
            If it states none of this field's values; the message names field and text.
        """
        text = text.strip()
        if (absent := markers.get(text.casefold())) is not None:
            return absent
        if self.kind is Kind.NUMBER:
            return self._number(text)
        if self.kind is Kind.BOOLEAN:
            return self._boolean(text)
        return self._category(text)

    def format(self, value: Value) -> str:
        """Return the text that `parse` reads as `value`."""
        if isinstance(value, Absent):
            return "" if value is Absent.MISSING else value.value
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else f"{value:.12g}"

    def number(self, value: Value) -> float | None:
        """Return the value as a number (the rank of an ordinal, 0 or 1), None if it is none."""
        if isinstance(value, Absent) or self.kind is Kind.CATEGORY:
            return None
        return float(self.values.index(value) if isinstance(value, str) else value)

    def _number(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            unit = f" in {self.unit}" if self.unit else ""
            raise self._error(text, f"a finite number{unit}")
        low, high = self.plausible or (-math.inf, math.inf)
        if not low <= number <= high:
            raise self._error(text, f"a plausible {low:g} to {high:g} {self.unit}".rstrip())
        return number

    def _boolean(self, text: str) -> bool:
        if text.casefold() not in _BOOLEANS:
            raise self._error(text, "yes or no")
        return _BOOLEANS[text.casefold()]

    def _category(self, text: str) -> str:
        for value in self.values:
            if value.casefold() == text.casefold():
                return value
        raise self._error(text, "one of " + ", ".join(self.values))

    def _error(self, text: str, expected: str) -> RecordError:
        hint = "empty, 'unknown' or 'not applicable'"
        return RecordError(f"field {self.name!r}: {text!r} is not {expected}, nor {hint}")


@dataclass(frozen=True)
class Record:
    """What is known of one patient: a value or an absence for every field of a schema."""

    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        return self.values[name]


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
    absent
        Further words for the kinds of absence.
    inferred
        True where a program guessed the schema from a table and no person confirmed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fields: tuple[Field, ...]  # type: ignore[assignment]  # pydantic's own name, unused since 2.0
    description: str = ""
    inputs: tuple[str, ...] = ()
    absent: dict[str, Absent] = {}
    inferred: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) < len(names):
            raise ValueError(f"two fields are named {max(names, key=names.count)!r}")
        for name in self.inputs:
            if name not in names:
                raise ValueError(f"input {name!r} is no field")
        for field in self.fields:
            for value in field.values:
                if value.casefold() in self.markers:
                    raise ValueError(f"field {field.name!r}: {value!r} is a word for absence")
        return self

    @property
    def markers(self) -> Mapping[str, Absent]:
        """The words for absence, casefolded."""
        return {
            **MARKERS,
            **{word.strip().casefold(): kind for word, kind in self.absent.items()},
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have inputs, in the order of their fields."""
        return tuple(dict.fromkeys(f.group for f in self.fields if f.name in self.inputs))

    def inputs_of(self, group: str) -> tuple[Field, ...]:
        """Return the fields of a group that a model may see."""
        return tuple(f for f in self.fields if f.group == group and f.name in self.inputs)

    def allowing(self, names: tuple[str, ...]) -> ClinicalSchema:
        """Return the schema with these fields as the inputs of a model.

        Raises
        ------
        RecordError
            If a name is no field.
        """
        return _validated(self.model_dump() | {"inputs": names}, f"schema {self.name}")

    def parse(self, cells: Mapping[str, str]) -> Record:
        """Return the record that a row of text states; a field without a column is missing.

        Raises
        ------
        RecordError
            If a cell is not valid; the message names its field and text.
        """
        return Record({f.name: f.parse(_cell(f, cells), self.markers) for f in self.fields})

    def format(self, record: Record) -> dict[str, str]:
        """Return text by field name, which `parse` reads as the same record."""
        return {field.name: field.format(record[field.name]) for field in self.fields}


def read_schema(path: str | Path) -> ClinicalSchema:
    """Return the schema in a TOML file.

    Raises
    ------
    RecordError
        If the file is no valid schema; the message names the file and what is wrong.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise RecordError(f"{path} is not a TOML file: {error}") from error
    return _validated(content, str(path))


def _validated(content: dict[str, Any], where: str) -> ClinicalSchema:
    try:
        return ClinicalSchema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"{where}: {place + ': ' if place else ''}{reason}") from error


def _cell(field: Field, cells: Mapping[str, str]) -> str:
    headers = (field.name, *field.columns)
    return next((cells[header] for header in headers if header in cells), "")
