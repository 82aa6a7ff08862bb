"""Baseline variability: map shift without any change of the record.

A map changes a little even if the patient's record stays the same. A map shift after an edit
of the record is meaningful only if it is larger than this baseline variability. It is
measured from up to three sources:

- *partition*: models that split a slide into random parts, such as PersAM with its bags of
  100 patches, split it with other seeds;
- *patches drawn*: other models see 90 % of the patches, drawn at random, and the maps are
  compared on those;
- *fold models*: models trained on other patients of the cohort see the same slide.

For example, if an edit moves 12 % of the attention and another partition alone moves 20 %,
then the shift cannot be attributed to the edit.
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
#: Number of random partitions, or draws of patches, and the share of the patches drawn.
DRAWS, SHARE = 5, 0.9
#: Total variation that rounding alone can cause.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Noise:
    """Map shifts without any change of the record.

    Attributes
    ----------
    sources
        By source, then by map name: one map shift per draw, or per other model.
    """

    sources: Mapping[str, Mapping[str, tuple[Movement, ...]]]

    def bounds(self, map_name: str = "") -> dict[str, Movement]:
        """Return the largest shift of a map by source.

        Each measure has its own maximum over the draws (minimum for the overlap).

        Parameters
        ----------
        map_name
            The main map if empty. Sources without this map are left out.
        """
        name = map_name or self._main
        return {
            source: _farthest(maps[name]) for source, maps in self.sources.items() if name in maps
        }

    def within(self, movement: Movement, map_name: str = "") -> bool:
        """Return whether a map shift is within the baseline variability.

        It is if its total variation is at most that of some source. A shift of NaN (a map that is 0
        everywhere, before or after) is never within it.

        Raises
        ------
        ValueError
            If there is no such map.
        """
        limits = [bound.moved for bound in self.bounds(map_name).values()]
        if not limits:
            raise ValueError(f"no baseline variability for map {map_name!r}: it has no shares")
        return movement.moved <= max(*limits, ROUNDING)

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
    """Measure the baseline variability; yield progress after every pass.

    Parameters
    ----------
    model, card, bag, record
        As for `predict`.
    others
        Models of the same kind, trained on other folds of the cohort, with their cards.

    Raises
    ------
    ValueError
        As `predict`, for any of the models.
    """
    passes = _passes(model, card, bag, record, others)
    total = 1 + DRAWS + len(others)
    shifts = []
    for done, shift in enumerate(passes, 1):
        shifts.append(shift)
        yield Progress(done, total)
    return _noise(shifts)


def noise_at_once(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record | None,
    others: Sequence[tuple[MILModel, Card]] = (),
) -> Noise:
    """Return the result of `noise` without yielding progress."""
    return _noise(list(_passes(model, card, bag, record, others)))


def _noise(passes: Sequence[tuple[str, dict[str, Movement]]]) -> Noise:
    by_source: dict[str, list[dict[str, Movement]]] = {}
    for source, shift in passes:
        if source:
            by_source.setdefault(source, []).append(shift)
    return Noise({source: _by_map(draws) for source, draws in by_source.items()})


def _passes(
    model: MILModel,
    card: Card,
    bag: Bag,
    record: Record | None,
    others: Sequence[tuple[MILModel, Card]],
) -> Iterator[tuple[str, dict[str, Movement]]]:
    """Yield source and map shifts of each pass.

    The first pass, the prediction itself, has no source and no shifts.
    """
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
    """Compare the maps of random patches with those of all."""
    n = len(whole.bag)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(draw))
    sample = order[: max(1, round(SHARE * n))].sort().values
    part = predict(model, whole.card, take_patches(whole.bag, sample), whole.record)
    common = tuple(
        replace(map_, scores=map_.per_patch()[sample], index=None) for map_ in whole.explanations
    )
    return movements(replace(whole, explanations=common), part)


def _by_map(draws: Sequence[dict[str, Movement]]) -> dict[str, tuple[Movement, ...]]:
    return {name: tuple(draw[name] for draw in draws) for name in draws[0]}


def _farthest(draws: Sequence[Movement]) -> Movement:
    """Return the largest shift of several draws, per measure."""
    return Movement(
        brighter=max((draw.brighter for draw in draws), key=abs),
        moved=max(draw.moved for draw in draws),
        distance=max(draw.distance for draw in draws),
        overlap=min(draw.overlap for draw in draws),
        signed=draws[0].signed,
    )
