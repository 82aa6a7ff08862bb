"""Sensitivity: effect of each clinical field on a prediction.

The record is changed in one field at a time and the model runs again. For example, the field
*ldh* gets the values at five percentiles of the cohort, one after the other, then "missing";
the result lists the change of the probabilities and the map shift for each value. Fields are
ranked by their largest effect.
"""

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

    RecordPredictor: TypeAlias = Callable[[Record], Prediction]

#: Percentiles of the cohort at which values of a number are tested.
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, eq=False)
class ValueEffect:
    """Effect of another value of one field.

    Attributes
    ----------
    value
        Value of the field.
    record
        The patient's record with that value; run the model on it again for its maps.
    probabilities
        (C,), of the card's outcomes.
    probability
        Increase of each outcome's probability.
    movement
        Shift of the main map.
    broken
        Schema rules that only the changed record breaks, a sentence each.
    unseen
        Difference between the value and all training records; empty if there is none.
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
    """Effects of the values of one field.

    Attributes
    ----------
    field
        Name of the field.
    values
        In the order of the schema or of the numbers, "missing" last; without the patient's own.
    """

    field: str
    values: tuple[ValueEffect, ...]

    @property
    def change(self) -> float:
        """Largest change, up or down, of any outcome's probability."""
        return max((abs(d) for v in self.values for d in v.probability.values()), default=0.0)

    @property
    def moved(self) -> float:
        """Largest total variation of the main map's shares."""
        return max((value.movement.moved for value in self.values), default=0.0)


def sweep(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record,
    cohort: Sequence[Record],
    live: PreparedSlide | None = None,
) -> Work[tuple[FieldEffect, ...]]:
    """Measure the effect of every field; yield after each prediction.

    The patient's record is changed in one field at a time: a number to the values at the
    `PERCENTILES` of the cohort, any other field to each of its values, and each field to missing.
    Returns the fields, the one with the largest change of probability first. An
    `IncrementalModel` prepares the slide once, with progress in rows, and then updates each
    prediction exactly. Closing the generator stops after a prediction.

    Parameters
    ----------
    model, card, bag, record
        As for `predict`.
    cohort
        Records of other patients, with the same schema.
    live
        The slide as prepared by the model, if available.

    Raises
    ------
    ValueError
        If the model uses no records, and as `predict`.
    """
    check_reads(card)
    assert card.record is not None  # checked
    predict_record = yield from _predictor(model, card, with_record(card, bag, record), live)
    own = predict_record(record)
    candidates = tuple(_candidates(card.record.clinical, record, cohort))
    total = 1 + sum(len(values) for _, values in candidates)
    done = 1
    yield Progress(done, total)
    effects_ = []
    for field, values in candidates:
        effects = []
        for value in values:
            effects.append(_effect(own, predict_record, field, value))
            done += 1
            yield Progress(done, total)
        effects_.append(FieldEffect(field.name, tuple(effects)))
    return ranked(effects_)


def ranked(effects: Sequence[FieldEffect], *, by_movement: bool = False) -> tuple[FieldEffect, ...]:
    """Return fields by `change`, or by `moved`, largest first."""
    key = (lambda one: one.moved) if by_movement else (lambda one: one.change)
    return tuple(sorted(effects, key=key, reverse=True))


def _predictor(
    model: MILModel, card: Card, bag: Bag, live: PreparedSlide | None
) -> Work[RecordPredictor]:
    """Return a function that predicts under a record.

    An incremental model prepares the slide first.
    """
    if not isinstance(model, IncrementalModel):
        return lambda record: predict(model, card, bag, record)
    check_encoder(card, bag)
    model.eval()
    ready = live or (yield from model.prepare(bag))
    return lambda record: _predict_live(ready, card, bag, record)


def _predict_live(live: PreparedSlide, card: Card, bag: Bag, record: Record) -> Prediction:
    bag = with_record(card, bag, record)
    assert bag.clinical is not None  # the card has a format, so the bag has tokens
    return prediction_of(card, bag, live.edit(bag.clinical).output(), record)


def _candidates(
    schema: ClinicalSchema, record: Record, cohort: Sequence[Record]
) -> Iterator[tuple[Field, list[Value]]]:
    """Yield each input with the values to test."""
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
    quantiles = np.percentile(known, PERCENTILES, method="inverted_cdf")  # observed values
    return sorted(set(quantiles.tolist()))


def _effect(
    own: Prediction, predict_record: RecordPredictor, field: Field, value: Value
) -> ValueEffect:
    assert own.record is not None
    assert own.card.record is not None
    record = Record({**own.record.values, field.name: value})
    other = predict_record(record)
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
