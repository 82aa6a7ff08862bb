"""Noise: how far a map moves when nothing of the patient has changed.

Beside what an edit of the record moves stands what moves without one:

- *partition*: PersAM's bags of 100 patches, parted by other seeds;
- *patches drawn*, of models without bags: 90 % of the patches drawn anew, and the maps
  compared on those;
- *fold models*: what others, trained on other patients of the cohort, see on the same slide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.counterfactual import movements
from napari_wsimil.explain.map_shift import Movement
from napari_wsimil.explain.predict import predict, prediction_of
from napari_wsimil.features.bag import take_patches
from napari_wsimil.models.protocols import Repartitionable
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work

PARTITION, DRAWN, FOLDS = "partition", "patches drawn", "fold models"
#: How often partitions, or patches, are drawn, and what share of the patches.
DRAWS, SHARE = 5, 0.9
#: A total variation of shares that rounding alone can make.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Noise:
    """The movements that come of nothing.

    Attributes
    ----------
    sources
        By source, by the map's name: one movement per draw, or per other model.
    """

    sources: Mapping[str, Mapping[str, tuple[Movement, ...]]]

    def bounds(self, map_name: str = "") -> dict[str, Movement]:
        """Return by source how far nothing moves a map, of all draws the farthest in each figure.

        Parameters
        ----------
        map_name
            The main map if empty. A source that does not have the map is left out.
        """
        name = map_name or self._main
        return {
            source: _farthest(maps[name]) for source, maps in self.sources.items() if name in maps
        }

    def within(self, movement: Movement, map_name: str = "") -> bool:
        """Return whether a map moved no farther, by its shares, than some source moves it.

        A map that lies nowhere, before or after, did not stay within anything.

        Raises
        ------
        ValueError
            If there is no such map.
        """
        found = [bound.moved for bound in self.bounds(map_name).values()]
        if not found:
            raise ValueError(f"there is no noise of a map {map_name!r}: it has no shares")
        return movement.moved <= max(*found, ROUNDING)

    @property
    def _main(self) -> str:
        return next(name for maps in self.sources.values() for name in maps)


def noise(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record | None,
    others: Sequence[tuple[MILModel, Card]] = (),
) -> Work[Noise]:
    """Yield after every pass; return the movements that come of nothing.

    Parameters
    ----------
    model, card, bag, record
        As for `predict`.
    others
        Models of the same kind, trained on other folds of the cohort, with their cards.

    Raises
    ------
    ValueError
        As `predict`, of any of the models.
    """
    passes = _passes(model, card, bag, record, others)
    total = 1 + DRAWS + len(others)
    found = []
    for done, moved in enumerate(passes, 1):
        found.append(moved)
        yield Progress(done, total)
    return _noise(found)


def noise_at_once(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record | None,
    others: Sequence[tuple[MILModel, Card]] = (),
) -> Noise:
    """Return what `noise` does, without telling how far it is."""
    return _noise(list(_passes(model, card, bag, record, others)))


def _noise(passes: Sequence[tuple[str, dict[str, Movement]]]) -> Noise:
    found: dict[str, list[dict[str, Movement]]] = {}
    for source, moved in passes:
        if source:
            found.setdefault(source, []).append(moved)
    return Noise({source: _by_map(draws) for source, draws in found.items()})


def _passes(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record | None,
    others: Sequence[tuple[MILModel, Card]],
) -> Iterator[tuple[str, dict[str, Movement]]]:
    """Yield the source of each pass and what it moved; of the first, which moves nothing, none."""
    whole = predict(model, card, bag, record)
    yield "", {}
    for draw in range(1, DRAWS + 1):
        if isinstance(model, Repartitionable):
            yield PARTITION, _repartitioned(model, whole, draw)
        else:
            yield DRAWN, _redrawn(model, whole, draw)
    for other, other_card in others:
        yield FOLDS, movements(whole, predict(other, other_card, bag, record))


@torch.inference_mode()
def _repartitioned(model: Repartitionable, whole: Prediction, draw: int) -> dict[str, Movement]:
    output = model.repartitioned(whole.bag, draw)
    return movements(whole, prediction_of(whole.card, whole.bag, output, whole.record))


def _redrawn(model: MILModel, whole: Prediction, draw: int) -> dict[str, Movement]:
    n = len(whole.bag)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(draw))
    kept = order[: max(1, round(SHARE * n))].sort().values
    part = predict(model, whole.card, take_patches(whole.bag, kept), whole.record)
    common = tuple(
        replace(map_, scores=map_.per_patch()[kept], index=None) for map_ in whole.explanations
    )
    return movements(replace(whole, explanations=common), part)


def _by_map(draws: Sequence[dict[str, Movement]]) -> dict[str, tuple[Movement, ...]]:
    return {name: tuple(draw[name] for draw in draws) for name in draws[0]}


def _farthest(draws: Sequence[Movement]) -> Movement:
    return Movement(
        brighter=max((draw.brighter for draw in draws), key=abs),
        moved=max(draw.moved for draw in draws),
        distance=max(draw.distance for draw in draws),
        overlap=min(draw.overlap for draw in draws),
        signed=draws[0].signed,
    )
