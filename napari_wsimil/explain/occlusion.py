"""Effect: what a model says of a slide without some of its patches, or with some alone.

A map tells where a model looked; whether what it saw there decided the answer is told by
asking again.
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

#: Smallest and largest share of the patches that is taken away, or put alone.
LEAST, MOST = 0.001, 0.9
#: Patches whose finer features are kept while curves are made, 32 KB each at k = 16, D = 512.
FINE_KEPT = 4096


def removed(model: MILModel, prediction: Prediction, patches: Tensor) -> Prediction:
    """Return what the model says of the same slide without some patches.

    The prediction is of a smaller bag: its maps have a score for each patch that is left.

    Parameters
    ----------
    model
        The one the prediction is of.
    prediction
        What it said of the whole slide; features, places and record are those of its bag.
    patches
        (Q,) int64, for an area those of `query.patches_in`; any may come twice.

    Raises
    ------
    ValueError
        If there is no such patch, or none would be left to ask about.
    """
    return predict(model, prediction.card, without(prediction.bag, patches), prediction.record)


def without(bag: Bag, patches: Tensor) -> Bag:
    """Return the bag without the patches at (Q,) indices; errors as of `removed`."""
    check_query(patches, len(bag))
    left = torch.ones(len(bag), dtype=torch.bool).index_fill(0, patches, False)
    if not left.any():
        raise ValueError(
            f"without all of its {len(bag)} patches there is no slide to ask about: remove fewer"
        )
    return take_patches(bag, left.nonzero()[:, 0])


@dataclass(frozen=True, eq=False)
class Series:
    """Probability of a class as more and more patches are taken, S times.

    Attributes
    ----------
    patches
        (S,) int64, how many are taken away (deletion), or are all there is (insertion).
    probability
        (S,) float64, the first patches of the ranking taken first.
    drawn
        (draws, S) float64, patches taken in random order.
    """

    patches: NDArray[np.int64]
    probability: NDArray[np.float64]
    drawn: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Return (S,) of the random orders."""
        mean: NDArray[np.float64] = self.drawn.mean(axis=0)
        return mean

    @property
    def range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (S,) lowest and (S,) highest of the random orders."""
        return self.drawn.min(axis=0), self.drawn.max(axis=0)

    @property
    def area(self) -> float:
        """Return the mean probability over the shares asked about, by trapezoids."""
        return self._area(self.probability)

    @property
    def random_area(self) -> float:
        """Return the same of the mean random order."""
        return self._area(self.mean)

    def _area(self, heights: NDArray[np.float64]) -> float:
        extent = self.patches[-1] - self.patches[0]
        return float(np.trapezoid(heights, self.patches) / extent)


@dataclass(frozen=True, eq=False)
class Curves:
    """How far the patches that a map ranks first carry a class, beside as many at random.

    Attributes
    ----------
    prediction
        Of the whole slide, which the patches were taken from.
    title
        Of the map that ranks.
    target
        Which of `prediction.card.outcomes` the probabilities are of.
    deletion
        From the whole slide (0 patches taken away) to a tenth of it: a map that found what
        carries the class makes it fall sooner than chance does.
    insertion
        From a thousandth of the slide to all of it: such a map makes it rise sooner.

    Notes
    -----
    A slide without a patch cannot be asked about, so neither curve goes there.
    """

    prediction: Prediction
    title: str
    target: int
    deletion: Series
    insertion: Series

    @property
    def outcome(self) -> str:
        """Return what the probabilities are of."""
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
    """Return what becomes of a class's probability as patches are taken by a map's ranking.

    Yields how many of how many forward passes are done, before each: (1 + draws) · 2 · steps
    at most.

    Parameters
    ----------
    model, prediction
        The model, and what it said of the whole slide.
    ranking
        A map of the prediction, or any other over its patches. The highest scores come
        first, of an order of looks the first; NaN, never looked at, comes last, and patches
        that are not told apart come at random.
    target
        Index in `card.outcomes`; that of the highest probability if None.
    steps
        Shares of the patches to ask about, geometric from a thousandth to nine tenths, so
        that the first few percent are resolved; fewer on small slides.
    draws
        Random orders, each one order for both curves.
    seed
        Of these, and of what the map does not tell apart.

    Raises
    ------
    ValueError
        If the map is of other patches or says nothing, there is no such outcome, steps or
        draws are below 1, or the slide has a single patch.
    """
    target = int(prediction.probabilities.argmax()) if target is None else target
    _check(prediction, ranking, target, steps, draws)
    bag, whole = _reading_once(prediction.bag), prediction.probabilities[target].item()
    n, counts = len(bag), _counts(len(bag), steps)
    random = torch.Generator().manual_seed(seed)
    orders = [ranked(ranking, random), *(torch.randperm(n, generator=random) for _ in range(draws))]
    asked = [part for order in orders for part in _parts(order, counts)]
    found = []
    for done, part in enumerate(asked):
        yield Progress(done, len(asked))
        found.append(_asked(model, prediction, bag, part).probabilities[target].item())
    without, alone = np.split(np.array(found).reshape(1 + draws, -1), 2, axis=1)
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
        raise ValueError(f"the map is of {patches} patches, the slide has {n}: it is of another")
    if n < 2:
        raise ValueError("a slide of a single patch has nothing to take away")
    if not 0 <= target < len(prediction.card.outcomes):
        named = ", ".join(prediction.card.outcomes)
        raise ValueError(f"target {target} is the index of none of {named}")
    if steps < 1 or draws < 1:
        raise ValueError(f"steps {steps} and draws {draws} must be at least 1")


def _counts(n: int, steps: int) -> list[int]:
    """Return how many of n patches are taken, each once, 1 to n - 1."""
    counts = np.rint(n * np.geomspace(LEAST, MOST, steps)).clip(1, n - 1)
    return np.unique(counts.astype(np.int64)).tolist()  # type: ignore[no-any-return]


def _parts(order: Tensor, counts: list[int]) -> Iterator[Tensor]:
    """Yield what is left without the first of an order, then the first alone; both sorted."""
    for count in counts:
        yield order[count:].sort().values
    for count in counts:
        yield order[:count].sort().values


def _series(patches: list[int], found: NDArray[np.float64]) -> Series:
    return Series(np.array(patches, dtype=np.int64), found[0], found[1:])


def _asked(model: MILModel, prediction: Prediction, bag: Bag, index: Tensor) -> Prediction:
    return predict(model, prediction.card, take_patches(bag, index))


def _reading_once(bag: Bag) -> Bag:
    """Return the bag with finer features that are remembered where they are computed."""
    if bag.finer is None or isinstance(bag.finer, torch.Tensor):
        return bag
    return replace(bag, finer=lru_cache(FINE_KEPT)(bag.finer))
