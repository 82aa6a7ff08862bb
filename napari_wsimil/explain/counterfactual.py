"""WhatIf: what a model says of a slide under the patient's record, and under another one."""

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
    """Two answers about the same slide, and which fields of the record differ.

    Attributes
    ----------
    before, after
        Under the patient's record, and under the other.
    changes
        Old and new value by the field's name.
    """

    before: Prediction
    after: Prediction
    changes: Mapping[str, tuple[Value, Value]]

    @property
    def probability(self) -> dict[str, float]:
        """Return by how much each outcome's probability rose."""
        rise = (self.after.probabilities - self.before.probabilities).tolist()
        return dict(zip(self.before.card.outcomes, rise, strict=True))

    @property
    def movements(self) -> dict[str, Movement]:
        """Return how far each map moved, by its name, but orders of looks, which lie nowhere."""
        return movements(self.before, self.after)


def what_if(model: MILModel, card: Card, bag: Bag, before: Record, after: Record) -> WhatIf:
    """Return what a model says of a slide under two records.

    Raises
    ------
    ValueError
        If the model reads no records, and as `predict`.
    """
    check_reads(card)
    one, other = (predict(model, card, bag, record) for record in (before, after))
    return WhatIf(one, other, before.changes(after))


def check_reads(card: Card) -> None:
    """Raise ValueError if a model reads no records, so that no edit can tell it anything."""
    if card.record is None:
        raise ValueError(f"{card.model} reads no clinical record: an edit changes nothing it says")


def broken_by(card: Card, before: Record, after: Record) -> tuple[str, ...]:
    """Return a sentence per rule of the model's schema that only the record after breaks."""
    if card.record is None:
        return ()
    already = card.record.clinical.broken(before)
    return tuple(rule for rule in card.record.clinical.broken(after) if rule not in already)


def movements(before: Prediction, after: Prediction) -> dict[str, Movement]:
    """Return how far each map moved between two answers, by its name.

    Maps are paired by name. Orders of looks lie nowhere and are left out.
    """
    others = {map_.name: map_ for map_ in after.explanations}
    return {
        map_.name: movement(map_, others[map_.name])
        for map_ in before.explanations
        if map_.kind in MOVABLE and map_.name in others
    }


def main_movement(before: Prediction, after: Prediction) -> Movement:
    """Return how far the main map of the answer before moved: the first that lies somewhere.

    Raises
    ------
    ValueError
        If the model has no such map, or the answer after lacks it.
    """
    main = next((map_ for map_ in before.explanations if map_.kind in PLACED), None)
    if main is None:
        raise ValueError(f"{before.card.model} has no map with shares, so none can move")
    return movement(main, _named(after, main.name))


def _named(prediction: Prediction, name: str) -> Explanation:
    for map_ in prediction.explanations:
        if map_.name == name:
            return map_
    raise ValueError(f"the answer after has no map {name!r}: it is of another model")


class Revisable(Protocol):
    """A model that is ready to be asked about the same patches again and again."""

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        """Yield what the model says of another record; the last is what `predict` would return.

        Parameters
        ----------
        seen
            What it said before, of the same bag.
        first
            (Q,) indices of patches whose maps may come first, in a prediction that has the
            others' as in `seen`, and its probabilities; none if there are no such patches.
        """
        ...


def prepare_revisions(model: MILModel, card: Card, bag: Bag) -> Work[Revisable]:
    """Return what answers edits of the record of `bag`; yields how much of how much is done.

    An `IncrementalModel` is prepared once, in the time of one pass, and then updated exactly.
    Any other model predicts anew each time.
    """
    if isinstance(model, IncrementalModel):
        model.eval()
        live = yield from model.prepare(with_record(card, bag, None))
        return _Updated(card, bag, live)
    return _AskedAnew(model, card, bag)


@dataclass(frozen=True, eq=False)
class _AskedAnew:
    model: MILModel
    card: Card
    bag: Bag

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        yield predict(self.model, self.card, self.bag, record)


@dataclass(frozen=True, eq=False)
class _Updated:
    card: Card
    bag: Bag
    live: PreparedSlide

    def revise(self, record: Record, seen: Prediction, first: Tensor) -> Iterator[Prediction]:
        assert self.card.record is not None  # the model reads records
        edit = self.live.edit(self.card.record.tokens(record))
        if len(first):
            yield replace(seen, explanations=_patched(seen.explanations, edit.maps(first), first))
        bag = with_record(self.card, self.bag, record)  # looks through all features once more
        yield prediction_of(self.card, bag, edit.output(), record)


def _patched(
    before: Sequence[Explanation], part: Sequence[Explanation], first: Tensor
) -> tuple[Explanation, ...]:
    """Return the maps with the scores that some patches have in the maps of a part."""
    newer = {one.name: one.scores for one in part}
    return tuple(
        replace(one, scores=one.scores.index_copy(0, first, newer[one.name]))
        if one.name in newer
        else one
        for one in before
    )
