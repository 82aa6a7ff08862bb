"""Sweep: which field of the record moves a model on this slide, one field at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.clinical.schema import Record
from napari_wsimil.explain.counterfactual import WhatIf, broken_by, check_reads, main_movement
from napari_wsimil.explain.predict import check_encoder, predict, prediction_of, with_record
from napari_wsimil.models.protocols import IncrementalModel
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from torch import Tensor

    from napari_wsimil.clinical.field import Field, Value
    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.protocols import PreparedSlide
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.progress import Work

    Ask: TypeAlias = Callable[[Record], Prediction]

#: Of a number, the values at these percentiles of the cohort are tried.
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class ValueEffect:
    """What another value of one field does.

    Attributes
    ----------
    value
        Of the field.
    record
        The patient's with that value, to be asked about again for its maps.
    probabilities
        (C,), of the card's outcomes.
    probability
        By how much each outcome's probability rose.
    movement
        Of the main map.
    broken
        A sentence per rule of the schema that the record breaks and the patient's own does not.
    unseen
        In what the value is unlike all training records; empty if it is not.
    """

    value: Value
    record: Record
    probabilities: Tensor
    probability: Mapping[str, float]
    movement: Movement
    broken: tuple[str, ...]
    unseen: str


@dataclass(frozen=True, eq=False)
class FieldEffect:
    """What the values of one field do.

    Attributes
    ----------
    field
        Its name.
    values
        In the order of the schema or of the numbers, "missing" last; not the patient's own.
    """

    field: str
    values: tuple[ValueEffect, ...]

    @property
    def change(self) -> float:
        """Return the largest change, up or down, of any outcome's probability."""
        return max((abs(d) for v in self.values for d in v.probability.values()), default=0.0)

    @property
    def moved(self) -> float:
        """Return how far the main map moved at most, total variation of its shares."""
        return max((value.movement.moved for value in self.values), default=0.0)


def sweep(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record,
    cohort: Sequence[Record],
    live: PreparedSlide | None = None,
) -> Work[tuple[FieldEffect, ...]]:
    """Yield after every answer; return the inputs, the one that changes the prediction most first.

    The patient's record is changed in one field at a time: a number to the values at the
    `PERCENTILES` of the cohort, anything else to each value it can have, each field to missing.
    An `IncrementalModel` prepares the slide once, with progress in rows, and then updates each
    prediction exactly. Closing the generator stops after a prediction.

    Parameters
    ----------
    model, card, bag, record
        As for `predict`.
    cohort
        Records of others, of the same schema.
    live
        The slide as the model prepared it, if it has.

    Raises
    ------
    ValueError
        If the model reads no records, and as `predict`.
    """
    check_reads(card)
    assert card.record is not None  # checked
    ask = yield from _answers(model, card, with_record(card, bag, record), live)
    own = ask(record)
    tried = tuple(_tried(card.record.clinical, record, cohort))
    total = 1 + sum(len(values) for _, values in tried)
    done = 1
    yield Progress(done, total)
    found = []
    for field, values in tried:
        effects = []
        for value in values:
            effects.append(_effect(own, ask, field, value))
            done += 1
            yield Progress(done, total)
        found.append(FieldEffect(field.name, tuple(effects)))
    return ranked(found)


def ranked(effects: Sequence[FieldEffect], *, by_movement: bool = False) -> tuple[FieldEffect, ...]:
    """Return the fields in the order of their `change`, or `moved`, the largest first."""
    key = (lambda one: one.moved) if by_movement else (lambda one: one.change)
    return tuple(sorted(effects, key=key, reverse=True))


def _answers(model: MILModel, card: Card, bag: Bag, live: PreparedSlide | None) -> Work[Ask]:
    """Return how the model answers for a record; an incremental model prepares the slide first."""
    if not isinstance(model, IncrementalModel):
        return lambda record: predict(model, card, bag, record)
    check_encoder(card, bag)
    model.eval()
    ready = live or (yield from model.prepare(bag))
    return lambda record: _live_answer(ready, card, bag, record)


def _live_answer(live: PreparedSlide, card: Card, bag: Bag, record: Record) -> Prediction:
    bag = with_record(card, bag, record)
    assert bag.clinical is not None  # the card has a format, so the bag has tokens
    return prediction_of(card, bag, live.edit(bag.clinical).output(), record)


def _tried(
    schema: ClinicalSchema, record: Record, cohort: Sequence[Record]
) -> Iterator[tuple[Field, list[Value]]]:
    """Yield each input with the values to try."""
    for field in (field for group in schema.groups for field in schema.inputs_of(group)):
        known = [value for one in cohort if isinstance(value := one[field.name], float)]
        values = [*_values(field, known), Absent.MISSING]
        yield field, [value for value in values if value != record[field.name]]


def _values(field: Field, known: Sequence[float]) -> Sequence[Value]:
    if field.kind is Kind.BOOLEAN:
        return (False, True)
    if field.kind is not Kind.NUMBER:
        return field.values
    if not known:
        return ()
    found = np.percentile(known, PERCENTILES, method="inverted_cdf")  # values that somebody has
    return sorted(set(found.tolist()))


def _effect(own: Prediction, ask: Ask, field: Field, value: Value) -> ValueEffect:
    assert own.record is not None
    assert own.card.record is not None
    record = Record({**own.record.values, field.name: value})
    other = ask(record)
    return ValueEffect(
        value=value,
        record=record,
        probabilities=other.probabilities,
        probability=WhatIf(own, other, {}).probability,
        movement=main_movement(own, other),
        broken=broken_by(own.card, own.record, record),
        unseen=_unseen(own.card.record, field.name, record),
    )


def _unseen(known: RecordFormat, name: str, record: Record) -> str:
    return known.remark(name, record[name]) if name in known.unseen(record) else ""
