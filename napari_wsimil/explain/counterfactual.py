"""What-if: predictions for one slide under two clinical records.

A what-if edit changes the input of the model, not the study: the patient's record stays as it
is. The model runs once with the patient's record and once with the edited one; the result
shows how probabilities and maps differ. For example, `what_if(model, card, bag, record,
edited)` with an LDH of 210 instead of 600 U/L returns the change of each class's probability
and the shift of each map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from napari_wsimil.explain.map_shift import MOVABLE, PLACED, Movement, movement
from napari_wsimil.explain.predict import Prediction, predict, prediction_of, with_record
from napari_wsimil.models.protocols import IncrementalModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.protocols import PreparedSlide
    from napari_wsimil.progress import Work


@dataclass(frozen=True, eq=False)
class WhatIf:
    """Predictions for one slide under two records.

    Attributes
    ----------
    before, after
        Under the patient's record, and under the edited one.
    changes
        Old and new value by field name.
    """

    before: Prediction
    after: Prediction
    changes: Mapping[str, tuple[Value, Value]]

    @property
    def probability(self) -> dict[str, float]:
        """Increase of each outcome's probability."""
        rise = (self.after.probabilities - self.before.probabilities).tolist()
        return dict(zip(self.before.card.outcomes, rise, strict=True))

    @property
    def movements(self) -> dict[str, Movement]:
        """Shift of each map by name, without orders of steps."""
        return movements(self.before, self.after)


def what_if(model: MILModel, card: Card, bag: Bag, before: Record, after: Record) -> WhatIf:
    """Run a model on a slide under two records.

    Raises
    ------
    ValueError
        If the model uses no records, and as `predict`.
    """
    check_reads(card)
    prediction, edited = (predict(model, card, bag, record) for record in (before, after))
    return WhatIf(prediction, edited, before.changes(after))


def check_reads(card: Card) -> None:
    """Raise ValueError if a model uses no clinical records."""
    if card.record is None:
        raise ValueError(
            f"{card.model} reads no clinical record: edits cannot change its prediction"
        )


def broken_by(card: Card, before: Record, after: Record) -> tuple[str, ...]:
    """Return the schema rules that only the edited record breaks.

    One sentence per rule of the model's schema.
    """
    if card.record is None:
        return ()
    already = card.record.clinical.broken(before)
    return tuple(rule for rule in card.record.clinical.broken(after) if rule not in already)


def movements(before: Prediction, after: Prediction) -> dict[str, Movement]:
    """Return the shift of each map between two predictions.

    Maps are paired by name. Orders of steps have no shares and are left out.
    """
    others = {map_.name: map_ for map_ in after.explanations}
    return {
        map_.name: movement(map_, others[map_.name])
        for map_ in before.explanations
        if map_.kind in MOVABLE and map_.name in others
    }


def main_movement(before: Prediction, after: Prediction) -> Movement:
    """Return the shift of the main map between two predictions.

    The main map is the first one with shares.

    Raises
    ------
    ValueError
        If the model has no such map, or the second prediction lacks it.
    """
    main = next((map_ for map_ in before.explanations if map_.kind in PLACED), None)
    if main is None:
        raise ValueError(f"{before.card.model} has no map with shares, so no map shift is defined")
    return movement(main, _named(after, main.name))


def _named(prediction: Prediction, name: str) -> Explanation:
    for map_ in prediction.explanations:
        if map_.name == name:
            return map_
    raise ValueError(f"the second prediction has no map {name!r}: it is of another model")


class Revisable(Protocol):
    """A slide and model prepared for edits of the record."""

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        """Yield predictions under another record; the last equals `predict`'s.

        Parameters
        ----------
        seen
            Previous prediction for the same bag.
        first
            (Q,) indices of patches with priority: their maps may come first, in a prediction with
            the other patches' maps and the probabilities of `seen`; empty for no priority.
        """
        ...


def prepare_revisions(model: MILModel, card: Card, bag: Bag) -> Work[Revisable]:
    """Prepare a slide for edits of its record; yields progress.

    An `IncrementalModel` is prepared once, in the time of one pass, and then updated exactly.
    Any other model predicts from the start each time.
    """
    if isinstance(model, IncrementalModel):
        model.eval()
        live = yield from model.prepare(with_record(card, bag, None))
        return _IncrementalPrediction(card, bag, live)
    return _FullPrediction(model, card, bag)


@dataclass(frozen=True, eq=False)
class _FullPrediction:
    model: MILModel
    card: Card
    bag: Bag

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        yield predict(self.model, self.card, self.bag, record)


@dataclass(frozen=True, eq=False)
class _IncrementalPrediction:
    card: Card
    bag: Bag
    live: PreparedSlide

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        assert self.card.record is not None  # the model reads records
        edit = self.live.edit(self.card.record.tokens(record))
        if len(first):
            yield replace(seen, explanations=_patched(seen.explanations, edit.maps(first), first))
        bag = with_record(self.card, self.bag, record)  # validates all features again
        yield prediction_of(self.card, bag, edit.output(), record)


def _patched(
    before: Sequence[Explanation], part: Sequence[Explanation], first: Tensor
) -> tuple[Explanation, ...]:
    """Return the maps with new scores for some patches."""
    newer = {one.name: one.scores for one in part}
    return tuple(
        replace(one, scores=one.scores.index_copy(0, first, newer[one.name]))
        if one.name in newer
        else one
        for one in before
    )
