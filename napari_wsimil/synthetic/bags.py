"""Synthetic feature bags with lesions at known patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

ENCODER = "planted"  # encoder identity of these features
STRIDE = 256  # level-0 pixels between patches
DECOYS = (0.03, 0.08)  # lowest and highest share of decoys in any slide


@dataclass(frozen=True)
class Lesions:
    """Recipe of bags with a lesion in every second slide.

    All slides of a recipe share one feature distribution: kinds of tissue, a direction of
    lesions and one of decoys. Training and test slides differ only in the seed of their
    drawing.

    Attributes
    ----------
    world
        Seed of the shared distribution: means of the tissue kinds and axes of the noise.
    patches
        Lowest and highest number of patches of a slide.
    dim
        D, number of features.
    shift
        Distance of a lesion's mean from its surrounding tissue, in standard deviations of
        the noise along this direction. Every slide also has decoy patches: they have half
        of this shift, and a larger one along a direction of their own.
    share
        Lowest and highest lesion share of a positive slide.
    stain
        Length of the vector that is added to all patches of a slide, in a random direction.
    axes
        Number of directions with noise of standard deviation 1; the others have 0.2.
    """

    world: int = 0
    patches: tuple[int, int] = (200, 600)
    dim: int = 64
    shift: float = 3.0
    share: tuple[float, float] = (0.02, 0.05)
    stain: float = 0.5
    axes: int = 12


@dataclass(frozen=True, eq=False)
class Planted:
    """Case of one synthetic slide with its ground truth.

    Attributes
    ----------
    case
        Case with one bag; its target is 1 if the slide has a lesion, else 0.
    truth
        (N,) bool, True for lesion patches, in the order of the bag.
    """

    case: Case
    truth: NDArray[np.bool_]

    @property
    def bag(self) -> Bag:
        """The only bag of the case."""
        return self.case.bags[0]


def plant(recipe: Lesions, count: int, seed: int) -> tuple[Planted, ...]:
    """Draw synthetic slides, every second one with a lesion.

    Parameters
    ----------
    count
        Number of slides.
    seed
        Seed of the drawing; the shared distribution depends on `recipe.world`.
    """
    world = _World(recipe)
    return tuple(
        world.slide(np.random.default_rng([seed, number]), f"{seed}-{number}", number % 2)
        for number in range(count)
    )


def tissue_cells(count: int, rng: Generator) -> NDArray[np.int64]:
    """Draw an irregular piece of tissue as lattice cells.

    Returns (count, 2) integer positions (x, y), row by row. Half of the bounding square is
    tissue: the highest cells of a smooth random field.
    """
    side = int(np.ceil(np.sqrt(2 * count)))
    field = gaussian_filter(rng.standard_normal((side, side)), side / 8)
    highest = np.sort(np.argsort(field, axis=None)[::-1][:count])
    return np.stack([highest % side, highest // side], axis=1).astype(np.int64)


def planted_grid(cells: NDArray[np.int64]) -> PatchGrid:
    """Return the patch grid of lattice cells, at stride `STRIDE`."""
    return PatchGrid(cells * STRIDE, patch_size=STRIDE, stride=STRIDE, pixels=STRIDE, mpp=0.5)


def blobs(cells: NDArray[np.int64], count: int, pieces: int, rng: Generator) -> NDArray[np.bool_]:
    """Draw round clusters of cells as a mask, (N,) bool.

    Parameters
    ----------
    cells
        (N, 2) lattice cells.
    count
        Number of cells in all clusters together.
    pieces
        Number of clusters.
    """
    chosen = np.zeros(len(cells), dtype=bool)
    for size in np.diff(np.linspace(0, count, pieces + 1).round().astype(int)):
        center = cells[rng.integers(len(cells))]
        distance = np.hypot(*(cells - center).T) + 1e-3 * rng.random(len(cells))
        distance[chosen] = np.inf
        chosen[np.argsort(distance)[:size]] = True
    return chosen


def probe(train: Sequence[Planted]) -> Callable[[Planted], NDArray[np.float64]]:
    """Fit a patch scorer to patch labels, as upper bound.

    The scorer is a logistic regression on features. It sees the label of every patch, so a
    model trained on slide labels is not expected to exceed it.
    """
    x = torch.cat([one.bag.features for one in train]).numpy()
    y = np.concatenate([one.truth for one in train])
    regression = LogisticRegression(C=0.1, max_iter=500).fit(x, y)
    return lambda one: regression.decision_function(one.bag.features.numpy())


def map_auroc(planted: Sequence[Planted], scores: Callable[[Planted], object]) -> float:
    """Return the AUROC of patch scores against the truth.

    The mean over slides with a lesion; `scores` returns (N,) scores of a slide.
    """
    positive = [one for one in planted if one.truth.any()]
    return float(np.mean([roc_auc_score(one.truth, np.asarray(scores(one))) for one in positive]))


class _World:
    """Feature distribution shared by all slides of a recipe."""

    def __init__(self, recipe: Lesions) -> None:
        rng = np.random.default_rng([recipe.world, 2**32 - 1])
        self.recipe = recipe
        self.kinds = 4 * _units(rng, 5, recipe.dim)
        basis, _ = np.linalg.qr(rng.standard_normal((recipe.dim, recipe.dim)))
        self.lesion = recipe.shift * _units(rng, 1, recipe.axes)[0] @ basis[: recipe.axes]
        self.decoy = 4 * _units(rng, 1, recipe.dim)[0] + self.lesion / 2
        self.spread = np.where(np.arange(recipe.dim) < recipe.axes, 1.0, 0.2)[:, None] * basis

    def slide(self, rng: Generator, name: str, positive: int) -> Planted:
        recipe = self.recipe
        cells = tissue_cells(int(rng.integers(*recipe.patches, endpoint=True)), rng)
        x = self.kinds[_kinds(cells, len(self.kinds), rng)]
        x = x + rng.standard_normal(x.shape) @ self.spread
        x = x + recipe.stain * _units(rng, 1, recipe.dim)
        decoy = self._blobs(cells, DECOYS, rng)
        lesion = self._blobs(cells, recipe.share, rng) & (positive == 1)
        x[decoy] += self.decoy
        x[lesion] += self.lesion
        bag = Bag(_float(x), encoder=ENCODER, grid=planted_grid(cells), synthetic=True)
        return Planted(Case(name, (bag,), positive), lesion)

    def _blobs(
        self, cells: NDArray[np.int64], share: tuple[float, float], rng: Generator
    ) -> NDArray[np.bool_]:
        count = max(1, round(len(cells) * rng.uniform(*share)))
        return blobs(cells, count, min(count, int(rng.integers(1, 4))), rng)


def _units(rng: Generator, count: int, dim: int) -> NDArray[np.float64]:
    rows = rng.standard_normal((count, dim))
    units: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _kinds(cells: NDArray[np.int64], kinds: int, rng: Generator) -> NDArray[np.int64]:
    """Draw the tissue kind of each cell, (N,).

    Each kind has a smooth random field; the highest field at a cell decides.
    """
    side = int(cells.max()) + 1
    fields = gaussian_filter(rng.standard_normal((kinds, side, side)), (0, side / 10, side / 10))
    chosen: NDArray[np.int64] = fields.argmax(axis=0)[cells[:, 1], cells[:, 0]]
    return chosen


def _float(x: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(x.astype(np.float32))
