"""Occlusion: predictions without some patches, or with only a few.

A map shows the attention of a model, not the cause of its prediction. Occlusion tests the cause:
it removes patches and runs the model again. `removed` removes the patches of an area.
`curves` removes more and more of the top patches of a map (deletion), or keeps only those
(insertion), and compares the probability with as many random patches. If removing the top
patches changes the probability no more than removing random ones, the map does not show the
cause of the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.predict import predict
from napari_wsimil.explain.statistics import ranked
from napari_wsimil.features.bag import take_patches
from napari_wsimil.models.base import check_query
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.progress import Work

#: Smallest and largest share of the patches that is removed, or kept alone.
LEAST, MOST = 0.001, 0.9
#: Patches with cached sub-patch features during curves, 32 KB each at k = 16, D = 512.
FINE_KEPT = 4096


def removed(model: MILModel, prediction: Prediction, patches: Tensor) -> Prediction:
    """Run the model on a slide without some patches.

    The prediction is for a smaller bag: its maps have a score for each remaining patch.

    Parameters
    ----------
    model
        Model of the prediction.
    prediction
        Prediction for the whole slide, with the features, coordinates and record of its bag.
    patches
        (Q,) int64, for an area those of `query.patches_in`; duplicates are allowed.

    Raises
    ------
    ValueError
        If there is no such patch, or none would remain.
    """
    return predict(model, prediction.card, without(prediction.bag, patches), prediction.record)


def without(bag: Bag, patches: Tensor) -> Bag:
    """Return the bag without (Q,) patches; errors as `removed`."""
    check_query(patches, len(bag))
    remaining = torch.ones(len(bag), dtype=torch.bool).index_fill(0, patches, False)
    if not remaining.any():
        raise ValueError(f"removing all {len(bag)} patches leaves nothing to predict: remove fewer")
    return take_patches(bag, remaining.nonzero()[:, 0])


@dataclass(frozen=True, eq=False)
class Series:
    """Probability of an outcome over removed or kept patches.

    The curve has S points.

    Attributes
    ----------
    patches
        (S,) int64, number of patches removed (deletion) or kept (insertion).
    probability
        (S,) float64, in the order of the ranking, top patches first.
    drawn
        (draws, S) float64, in random orders.
    """

    patches: NDArray[np.int64]
    probability: NDArray[np.float64]
    drawn: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(S,) mean of the random orders."""
        mean: NDArray[np.float64] = self.drawn.mean(axis=0)
        return mean

    @property
    def range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(S,) lowest and (S,) highest of the random orders."""
        return self.drawn.min(axis=0), self.drawn.max(axis=0)

    @property
    def area(self) -> float:
        """Mean probability over the shares of patches, by trapezoids."""
        return self._area(self.probability)

    @property
    def random_area(self) -> float:
        """Mean probability over the shares, of the mean random order."""
        return self._area(self.mean)

    def _area(self, heights: NDArray[np.float64]) -> float:
        extent = self.patches[-1] - self.patches[0]
        return float(np.trapezoid(heights, self.patches) / extent)


@dataclass(frozen=True, eq=False)
class Curves:
    """Deletion and insertion curves of a map, with random orders.

    Attributes
    ----------
    prediction
        For the whole slide.
    title
        Title of the map that ranks the patches.
    target
        Index in `prediction.card.outcomes` of the outcome with these probabilities.
    deletion
        From the whole slide (0 patches removed) to a tenth of it. If the map shows the patches that
        carry the class, its curve falls sooner than those of random orders.
    insertion
        From a thousandth of the slide to all of it; such a map's curve rises sooner.

    Notes
    -----
    A model cannot run without any patch, so neither curve includes an empty slide.
    """

    prediction: Prediction
    title: str
    target: int
    deletion: Series
    insertion: Series

    @property
    def outcome(self) -> str:
        """Name of the outcome with these probabilities."""
        return self.prediction.card.outcomes[self.target]


def curves(
    model: MILModel,
    prediction: Prediction,
    ranking: Explanation,
    *,
    target: int | None = None,
    steps: int = 12,
    draws: int = 5,
    seed: int = 0,
) -> Work[Curves]:
    """Measure a class's probability while patches are removed or kept.

    Yields the number of finished forward passes before each pass, of at most
    (1 + draws) · 2 · steps.

    Parameters
    ----------
    model, prediction
        The model, and its prediction for the whole slide.
    ranking
        A map of the prediction, or any other over its patches. The highest scores come first, for
        an order of steps the first step; NaN (never read) comes last, and ties are in random
        order.
    target
        Index in `card.outcomes`; that of the highest probability if None.
    steps
        Number of shares of the patches, geometric from a thousandth to nine tenths, so that the
        first few percent are resolved; fewer on small slides.
    draws
        Number of random orders, each used for both curves.
    seed
        Seed of the random orders, and of the order of ties.

    Raises
    ------
    ValueError
        If the map has other patches or no values, there is no such outcome, steps or draws are
        below 1, or the slide has a single patch.
    """
    target = int(prediction.probabilities.argmax()) if target is None else target
    _check(prediction, ranking, target, steps, draws)
    bag, whole = _caching_subpatches(prediction.bag), prediction.probabilities[target].item()
    n, counts = len(bag), _counts(len(bag), steps)
    random = torch.Generator().manual_seed(seed)
    orders = [ranked(ranking, random), *(torch.randperm(n, generator=random) for _ in range(draws))]
    subsets = [subset for order in orders for subset in _subsets(order, counts)]
    probabilities = []
    for done, subset in enumerate(subsets):
        yield Progress(done, len(subsets))
        output = _predict_subset(model, prediction, bag, subset)
        probabilities.append(output.probabilities[target].item())
    without, alone = np.split(np.array(probabilities).reshape(1 + draws, -1), 2, axis=1)
    before = np.full((1 + draws, 1), whole)
    return Curves(
        prediction,
        prediction.title(ranking),
        target,
        deletion=_series([0, *counts], np.hstack([before, without])),
        insertion=_series([*counts, n], np.hstack([alone, before])),
    )


def _check(
    prediction: Prediction, ranking: Explanation, target: int, steps: int, draws: int
) -> None:
    n, patches = len(prediction.bag), len(ranking.per_patch())
    if patches != n:
        raise ValueError(f"the map has {patches} patches and the slide {n}: they do not match")
    if n < 2:
        raise ValueError("occlusion needs at least two patches; this slide has one")
    if not 0 <= target < len(prediction.card.outcomes):
        names = ", ".join(prediction.card.outcomes)
        raise ValueError(f"target {target} is no index of the outcomes {names}")
    if steps < 1 or draws < 1:
        raise ValueError(f"steps and draws must be at least 1 (got {steps} and {draws})")


def _counts(n: int, steps: int) -> list[int]:
    """Return distinct numbers of patches, 1 to n - 1."""
    counts = np.rint(n * np.geomspace(LEAST, MOST, steps)).clip(1, n - 1)
    return np.unique(counts.astype(np.int64)).tolist()  # type: ignore[no-any-return]


def _subsets(order: Tensor, counts: list[int]) -> Iterator[Tensor]:
    """Yield sorted patches: without the top ones, then those alone."""
    for count in counts:
        yield order[count:].sort().values
    for count in counts:
        yield order[:count].sort().values


def _series(patches: list[int], values: NDArray[np.float64]) -> Series:
    return Series(np.array(patches, dtype=np.int64), values[0], values[1:])


def _predict_subset(model: MILModel, prediction: Prediction, bag: Bag, index: Tensor) -> Prediction:
    return predict(model, prediction.card, take_patches(bag, index))


def _caching_subpatches(bag: Bag) -> Bag:
    """Return the bag with a cache of computed sub-patch features."""
    if bag.finer is None or isinstance(bag.finer, torch.Tensor):
        return bag
    return replace(bag, finer=lru_cache(FINE_KEPT)(bag.finer))
