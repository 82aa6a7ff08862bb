"""Revision: what a model says of the same patches under another record, some of them first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from napari_wsimil.explain.predict import Prediction, predict, prediction_of, with_record
from napari_wsimil.models.persam.incremental import Live, prepare
from napari_wsimil.models.persam.live import PersAMLive

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card


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


def prepare_revisions(
    model: MILModel, card: Card, bag: Bag
) -> Generator[tuple[int, int], None, Revisable]:
    """Return what answers edits of the record of `bag`; yields how much of how much is done.

    A persam-live is prepared once, in the time of one pass, and then updated exactly by what
    changed. Any other model is asked anew each time.
    """
    if isinstance(model, PersAMLive):
        live = yield from prepare(model.eval(), with_record(card, bag, None))
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
    live: Live

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
