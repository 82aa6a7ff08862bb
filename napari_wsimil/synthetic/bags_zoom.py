"""Synthetic bags with subpatches, where lesions are clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.synthetic.bags import DECOYS, ENCODER, Planted, blobs, planted_grid, tissue_cells

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

KINDS = 5  # kinds of tissue, each around its own centers


@dataclass(frozen=True)
class Zoom:
    """Recipe of slides with subpatches, every second with a lesion.

    Lesions are faint in the features of a patch and clear in those of its subpatches. A model
    must therefore request subpatches of the right patches.

    Attributes
    ----------
    world
        Seed of the shared distribution: means of the tissue kinds and axes of the noise.
    patches
        Lowest and highest number of patches of a slide.
    dim
        D, number of features.
    sub_patches
        k, number of subpatches of a patch.
    shift
        Distance of a lesion's mean patch features from its surrounding tissue, in standard
        deviations of the noise along this direction. Decoys, in all slides, have half of
        this shift, and a larger one along a direction of their own.
    fine_shift
        The same distance for the features of a lesional subpatch.
    ill
        Lowest and highest number of lesional subpatches of a lesional patch.
    share
        Lowest and highest lesion share of a positive slide.
    stain
        Length of the vector that is added to a whole slide, in a random direction.
    axes
        Number of directions with noise of standard deviation 1; the others have 0.2.
    """

    world: int = 0
    patches: tuple[int, int] = (160, 300)
    dim: int = 64
    sub_patches: int = 16
    shift: float = 1.7
    fine_shift: float = 3.2
    ill: tuple[int, int] = (4, 12)
    share: tuple[float, float] = (0.02, 0.05)
    stain: float = 0.5
    axes: int = 12


def plant_zoom(recipe: Zoom, count: int, seed: int) -> tuple[Planted, ...]:
    """Draw `count` slides with stored subpatch features."""
    world = _World(recipe)
    return tuple(
        world.slide(np.random.default_rng([seed, number]), f"{seed}-{number}", number % 2)
        for number in range(count)
    )


class _World:
    """Feature distribution shared by all slides of a recipe."""

    def __init__(self, recipe: Zoom) -> None:
        rng = np.random.default_rng([recipe.world, 2**32 - 2])
        self.recipe = recipe
        self.kinds = 4 * _units(rng, KINDS, recipe.dim)
        basis, _ = np.linalg.qr(rng.standard_normal((recipe.dim, recipe.dim)))
        self.lesion = _units(rng, 1, recipe.axes)[0] @ basis[: recipe.axes]
        self.decoy = 4 * _units(rng, 1, recipe.dim)[0]
        self.spread = np.where(np.arange(recipe.dim) < recipe.axes, 1.0, 0.2)[:, None] * basis

    def slide(self, rng: Generator, name: str, positive: int) -> Planted:
        recipe = self.recipe
        cells = tissue_cells(int(rng.integers(*recipe.patches, endpoint=True)), rng)
        truth = self._blobs(cells, recipe.share, rng) & (positive == 1)
        decoy = self._blobs(cells, DECOYS, rng)
        tissue = self.kinds[_kinds(cells, rng)] + recipe.stain * _units(rng, 1, recipe.dim)
        tissue[decoy] += self.decoy
        ill = self._ill(truth, rng)
        coarse = recipe.shift * (truth + decoy / 2)
        fine = recipe.fine_shift * (ill + decoy[:, None] / 2)
        bag = Bag(
            self._features(tissue, coarse, rng),
            encoder=ENCODER,
            grid=planted_grid(cells),
            finer=self._features(tissue[:, None], fine, rng),
            synthetic=True,
        )
        return Planted(Case(name, (bag,), positive), truth)

    def _features(
        self, tissue: NDArray[np.float64], along: NDArray[np.float64], rng: Generator
    ) -> Tensor:
        """Draw features (..., D) shifted along the lesion direction.

        `along` are shifts (...) in standard deviations of the noise.
        """
        noise = rng.standard_normal((*along.shape, self.recipe.dim)) @ self.spread
        return torch.from_numpy((tissue + along[..., None] * self.lesion + noise).astype("float32"))

    def _ill(self, truth: NDArray[np.bool_], rng: Generator) -> NDArray[np.bool_]:
        """Draw the lesional subpatches of lesional patches, (N, k) bool."""
        rank = rng.random((len(truth), self.recipe.sub_patches)).argsort(axis=1)
        count = rng.integers(*self.recipe.ill, endpoint=True, size=(len(truth), 1))
        ill: NDArray[np.bool_] = (rank < count) & truth[:, None]
        return ill

    def _blobs(
        self, cells: NDArray[np.int64], share: tuple[float, float], rng: Generator
    ) -> NDArray[np.bool_]:
        count = max(1, round(len(cells) * rng.uniform(*share)))
        return blobs(cells, count, min(count, int(rng.integers(1, 4))), rng)


def _units(rng: Generator, count: int, dim: int) -> NDArray[np.float64]:
    rows = rng.standard_normal((count, dim))
    units: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def _kinds(cells: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    """Draw the tissue kind of each cell, (N,).

    The nearest of several random cells decides.
    """
    centers = cells[rng.integers(len(cells), size=2 * KINDS)]
    distance = np.linalg.norm(cells[:, None] - centers, axis=2)
    kinds: NDArray[np.int64] = distance.argmin(axis=1) % KINDS
    return kinds
