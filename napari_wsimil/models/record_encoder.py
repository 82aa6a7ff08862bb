"""RecordFormat: encoding of a patient's record for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from pydantic import BaseModel, ConfigDict

from napari_wsimil.clinical.encoding import Moments, channels, encode, fit_statistics
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.clinical.schema import ClinicalSchema  # noqa: TC001  # pydantic reads it
from napari_wsimil.features.bag import ClinicalTokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_wsimil.clinical.field import Field, Value
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.features.bag import Bag


class RecordFormat(BaseModel):
    """Schema and statistics of a model's training records.

    Attributes
    ----------
    clinical
        The schema; the model receives its inputs.
    statistics
        "mean" and "sd" of each numeric input over the training records; "min" and "max" too
        for an input with a number in any of them.
    seen
        Categories and kinds of absence that each input had in the training records, as texts;
        an absence counts if another input of its group was present. Empty in older cards that
        did not store them: then no value is reported as unseen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clinical: ClinicalSchema
    statistics: dict[str, dict[str, float]]
    seen: dict[str, tuple[str, ...]] = {}

    @classmethod
    def fit(cls, schema: ClinicalSchema, records: Iterable[Record]) -> Self:
        """Return the format of a schema, fitted to training records.

        Raises
        ------
        RecordError
            If the schema names no field as an input.
        """
        if not schema.inputs:
            raise RecordError(
                f"schema {schema.name}: no field is an input; list the fields for models in inputs"
            )
        records = tuple(records)
        statistics = {
            name: {"mean": m["mean"], "sd": m["sd"], **_range(schema.by_name[name], records)}
            for name, m in fit_statistics(schema, records).items()
        }
        seen = {name: texts for g in schema.groups for name, texts in _seen(schema, g, records)}
        return cls(clinical=schema, statistics=statistics, seen=seen)

    @property
    def groups(self) -> str:
        """The token width of each group, such as "18,10"."""
        return ",".join(str(len(names)) for names in channels(self.clinical).values())

    def tokens(self, record: Record | None) -> ClinicalTokens:
        """Return a record's tokens; None means all groups missing."""
        known = self.clinical.parse({}) if record is None else record
        statistics = {n: Moments(mean=m["mean"], sd=m["sd"]) for n, m in self.statistics.items()}
        tokens = encode(self.clinical, known, statistics)
        return ClinicalTokens(
            tuple(torch.from_numpy(value) for value in tokens.values),
            torch.from_numpy(tokens.present),
        )

    def unseen(self, record: Record) -> tuple[str, ...]:
        """Return the inputs with values unlike all training records.

        The model learned nothing about such values, see `remark`. Inputs of a group that is missing
        altogether do not count: the model receives no token of it.
        """
        present = [g for g in self.clinical.groups if _present(self.clinical, g, record)]
        names = [field.name for group in present for field in self.clinical.inputs_of(group)]
        return tuple(name for name in names if self.remark(name, record[name]))

    def remark(self, name: str, value: Value) -> str:
        """Return how a value differs from all training records.

        Empty if it does not.
        """
        if name not in self.seen:
            return ""
        field = self.clinical.by_name[name]
        text = _text(field, value)
        if not text:
            return self._outside(field, value)
        where = f" that has others of {field.group}" if isinstance(value, Absent) else ""
        return "" if text in self.seen[name] else f"{name} was {text} in no training record{where}"

    def _outside(self, field: Field, value: Value) -> str:
        moments, number = self.statistics[field.name], field.number(value)
        if "min" not in moments:
            return f"{field.name} was a number in no training record"
        if number is None or moments["min"] <= number <= moments["max"]:
            return ""
        limits = f"{moments['min']:g} to {moments['max']:g} {field.unit}".rstrip()
        return f"{field.name} {number:g} is outside the {limits} of the training records"

    def check(self, schema: ClinicalSchema | None) -> None:
        """Raise RecordError unless a schema has the same inputs.

        The message names the fields that are missing or differ.
        """
        theirs = {field.name: field for field in schema.fields} if schema else {}
        ours = [f for group in self.clinical.groups for f in self.clinical.inputs_of(group)]
        missing = [f.name for f in ours if f.name not in theirs]
        other = [f.name for f in ours if f.name in theirs and not _alike(f, theirs[f.name])]
        differences = (("without ", missing), ("with another ", other))
        if missing or other:
            raise RecordError(
                f"these records are of another schema than the model's, {self.clinical.name}: "
                + ", ".join(words + ", ".join(names) for words, names in differences if names)
            )


def _range(field: Field, records: tuple[Record, ...]) -> dict[str, float]:
    """Return a field's minimum and maximum over records, if any."""
    known = [n for record in records if (n := field.number(record[field.name])) is not None]
    return {"min": min(known), "max": max(known)} if known else {}


def _seen(
    schema: ClinicalSchema, group: str, records: tuple[Record, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each input of a group with its non-numeric values."""
    present = [record for record in records if _present(schema, group, record)]
    for field in schema.inputs_of(group):
        texts = {_text(field, record[field.name]) for record in present}
        yield field.name, tuple(sorted(texts - {""}))


def _present(schema: ClinicalSchema, group: str, record: Record) -> bool:
    return any(record[f.name] is not Absent.MISSING for f in schema.inputs_of(group))


def _text(field: Field, value: Value) -> str:
    """Return the text of an absence or a category.

    Empty for numbers.
    """
    if isinstance(value, Absent):
        return value.value
    return "" if field.kind is Kind.NUMBER else field.format(value)


def _alike(one: Field, other: Field) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("kind", "unit", "values"))


def parse_groups(groups: str) -> tuple[int, ...]:
    """Return the token widths F_g in a text ("18,10").

    Raises
    ------
    ValueError
        If the text is no list of positive whole numbers.
    """
    try:
        widths = tuple(int(width) for width in groups.split(","))
    except ValueError as error:
        raise ValueError(f'groups "{groups}" are not widths such as "18,10"') from error
    if min(widths) < 1:
        raise ValueError(f'groups "{groups}" have a width below 1')
    return widths


def check_record(bag: Bag, widths: tuple[int, ...]) -> None:
    """Raise ValueError if a bag's record does not fit.

    That is a record with groups of other widths, or with NaN or infinite values in a present
    group.
    """
    if bag.clinical is None:
        return
    lengths = tuple(len(value) for value in bag.clinical.values)
    if lengths != widths:
        raise ValueError(
            f"the record has groups of {_listed(lengths)} numbers, this model takes "
            f"{_listed(widths)}: it was trained with another clinical schema"
        )
    if len(bag.clinical.present) != len(widths):
        raise ValueError(
            f"the record marks {len(bag.clinical.present)} groups as present or missing, "
            f"this model takes {len(widths)}"
        )
    known = zip(bag.clinical.values, bag.clinical.present.tolist(), strict=True)
    broken = [i for i, (v, seen) in enumerate(known, 1) if seen and not v.isfinite().all()]
    if broken:
        raise ValueError(f"group {_listed(tuple(broken))} of the record has NaN or infinite values")


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(map(str, widths)) or "no"
