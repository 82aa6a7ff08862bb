"""Typed fields of a clinical record, and absence of values.

A cell of a record is a value or one of three kinds of absence, which are never mixed up.
In text they are written

- an empty cell, or `missing`: nobody wrote anything down;
- `unknown`: somebody asked, and the answer is not known;
- `not applicable`: the question has no answer for this patient.

Case does not matter. A source's other words (`'--` of the GDC, `not reported`) are declared
in the schema's `absent` table. `NA` is not taken for any of them unless declared, since
people mean both "not available" and "not applicable" by it.
"""

from __future__ import annotations

import math
from datetime import date
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Absent(Enum):
    """Why a record has no value."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not applicable"


#: A number, a category's name, a yes or no, a day, or why there is none.
Value: TypeAlias = float | str | bool | date | Absent

#: How absence is written in text, casefolded; a schema may add words.
MARKERS: Mapping[str, Absent] = {
    "": Absent.MISSING,
    "missing": Absent.MISSING,
    "unknown": Absent.UNKNOWN,
    "not applicable": Absent.NOT_APPLICABLE,
}

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(StrEnum):
    """Kind of a field's values."""

    NUMBER = "number"
    CATEGORY = "category"
    BOOLEAN = "boolean"
    ORDINAL = "ordinal"  # categories with an order, lowest first
    DATE = "date"  # a day; no input of a model, which would learn the calendar


class Field(BaseModel):
    """One field of a record.

    Attributes
    ----------
    name
        Short name, unique in its schema.
    kind
        Kind of its values.
    group
        The group it belongs to; a model sees one token per group.
    unit
        Unit of a number, as shown to people.
    hard
        Lowest and highest number that can be; others are refused.
    plausible
        Lowest and highest number that is not odd; others are remarked upon.
    normal
        Lowest and highest number of the healthy, as shown to people.
    values
        The allowed categories, in order where the kind is ordinal.
    description
        One sentence for people.
    columns
        Other headers under which tables have this field, beside its name.
    outcome
        Whether it defines the outcome that models predict, or follows from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    group: str
    unit: str = ""
    hard: tuple[float, float] | None = None
    plausible: tuple[float, float] | None = None
    normal: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    description: str = ""
    columns: tuple[str, ...] = ()
    outcome: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        categorical = self.kind in (Kind.CATEGORY, Kind.ORDINAL)
        if categorical != bool(self.values):
            need = "needs a list of values" if categorical else "takes no list of values"
            raise ValueError(f"field {self.name!r} is a {self.kind.value}, which {need}")
        if len({value.casefold() for value in self.values}) < len(self.values):
            raise ValueError(f"field {self.name!r} has a value twice (case does not matter)")
        for limits in filter(None, (self.hard, self.plausible, self.normal)):
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
        return self._date(text) if self.kind is Kind.DATE else self._category(text)

    def remark(self, value: Value) -> str:
        """Return a remark on an implausible value, else empty."""
        if self.plausible is None or not isinstance(value, float):
            return ""
        low, high = self.plausible
        limits = f"{low:g} to {high:g} {self.unit}".rstrip()
        return "" if low <= value <= high else f"{value:g} is outside the plausible {limits}"

    def format(self, value: Value) -> str:
        """Return the text that `parse` reads as `value`."""
        if isinstance(value, Absent):
            return "" if value is Absent.MISSING else value.value
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str):
            return value
        short = f"{value:.12g}"
        return short if float(short) == value else repr(float(value))

    def number(self, value: Value) -> float | None:
        """Return the value as a number, or None.

        Ordinals give their rank, booleans 0 or 1.
        """
        if isinstance(value, Absent | date) or self.kind is Kind.CATEGORY:
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
        low, high = self.hard or (-math.inf, math.inf)
        if not low <= number <= high:
            raise self._error(text, f"a possible {low:g} to {high:g} {self.unit}".rstrip())
        return number

    def _date(self, text: str) -> date:
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise self._error(text, "a day as YYYY-MM-DD") from error

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
