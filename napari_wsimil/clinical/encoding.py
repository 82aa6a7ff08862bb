"""Encoding of records as tokens, one vector per field group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from napari_wsimil.clinical.field import Absent, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from napari_wsimil.clinical.field import Field
    from napari_wsimil.clinical.schema import ClinicalSchema, Record


class Moments(TypedDict):
    """Mean and standard deviation of one field."""

    mean: float
    sd: float


#: Moments by field name, of training records only; plain numbers for JSON.
Statistics = dict[str, Moments]


@dataclass(frozen=True)
class RecordTokens:
    """Clinical record as model input.

    Attributes
    ----------
    values
        One (F_g,) float32 vector per group, in the order of `schema.groups`.
    present
        (G,) bool, False if every field of the group is missing. A group with only unknown
        or not applicable fields counts as present, because its absence is recorded.
    """

    values: tuple[NDArray[np.float32], ...]
    present: NDArray[np.bool_]


def fit_statistics(schema: ClinicalSchema, records: Iterable[Record]) -> Statistics:
    """Return mean and standard deviation of each numeric input.

    Pass training records only. Ordinals count as ranks from 0, booleans as 0 and 1. A field
    that is constant, or absent in every record, has standard deviation 0.
    """
    records = tuple(records)
    numeric = [f for g in schema.groups for f in schema.inputs_of(g) if f.kind is not Kind.CATEGORY]
    return {field.name: _moments(field, records) for field in numeric}


def encode(schema: ClinicalSchema, record: Record, statistics: Statistics) -> RecordTokens:
    """Return the record's tokens, standardized with training statistics.

    A number, ordinal or boolean is one channel, (x - mean) / sd. It is 0 if absent, which is
    the training mean, or if sd is 0. A category is one channel per value. Three indicator
    channels follow for each field: missing, unknown, not applicable. `channels` names them.

    Raises
    ------
    ValueError
        If the statistics have no entry for a field because they were fitted with another
        schema.
    """
    values = tuple(
        np.concatenate([_channels(f, record, statistics) for f in schema.inputs_of(group)])
        for group in schema.groups
    )
    present = [
        any(record[f.name] is not Absent.MISSING for f in schema.inputs_of(group))
        for group in schema.groups
    ]
    return RecordTokens(values, np.array(present, dtype=bool))


def channels(schema: ClinicalSchema) -> Mapping[str, tuple[str, ...]]:
    """Return the channel names of each group's token, in order."""
    return {
        group: tuple(name for f in schema.inputs_of(group) for name in _names(f))
        for group in schema.groups
    }


def _moments(field: Field, records: tuple[Record, ...]) -> Moments:
    numbers = [field.number(record[field.name]) for record in records]
    known = [number for number in numbers if number is not None]
    if not known:
        return {"mean": 0.0, "sd": 0.0}
    return {"mean": float(np.mean(known)), "sd": float(np.std(known))}


def _channels(field: Field, record: Record, statistics: Statistics) -> NDArray[np.float32]:
    value = record[field.name]
    if field.kind is Kind.CATEGORY:
        content = [float(value == known) for known in field.values]
    else:
        content = [_standardize(field, field.number(value), statistics)]
    return np.array([*content, *(value is kind for kind in Absent)], dtype=np.float32)


def _standardize(field: Field, number: float | None, statistics: Statistics) -> float:
    if field.name not in statistics:
        raise ValueError(
            f"no training statistics for field {field.name!r}: use the schema of the training run"
        )
    moments = statistics[field.name]
    if number is None or moments["sd"] == 0:
        return 0.0
    return (number - moments["mean"]) / moments["sd"]


def _names(field: Field) -> tuple[str, ...]:
    content = (
        tuple(f"{field.name} = {value}" for value in field.values)
        if field.kind is Kind.CATEGORY
        else (field.name,)
    )
    return (*content, *(f"{field.name} {kind.value}" for kind in Absent))
