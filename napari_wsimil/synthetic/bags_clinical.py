"""Synthetic bags with clinical records that decide ambiguous slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.features.case import Case
from napari_wsimil.synthetic.bags import ENCODER, blobs, planted_grid, tissue_cells

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

LESIONS = 3  # kinds of lesion, and classes
TISSUES = 4  # kinds of tissue without lesion
WIDTHS = (18, 10)  # fields of the two groups of a record: demographics, blood
GROUPS = "18,10"  # the same as a model option
TELLING = 3  # fields of the second group that decide between lesions 0 and 1
CLEAR = 2.0  # product of record and weights that `pointed` sets


@dataclass(frozen=True)
class Records:
    """Recipe of slides with clinical records.

    Ambiguous patients have lesions 0 and 1 on their slide: only the record decides their
    class. Other patients have only the lesion of their class, and an uninformative record.

    Attributes
    ----------
    world
        Seed of the shared distribution: means of the kinds, and weights of the record.
    patches
        Lowest and highest number of patches of a slide.
    dim
        D, number of features.
    spread
        Standard deviation of the kinds' means, per feature; that of the noise is 1.
    share
        Lowest and highest share of a slide for one kind of lesion.
    stain
        Standard deviation of the vector added to all patches of a slide, per feature.
    ambiguous
        Share of ambiguous patients.
    signal
        Standard deviation, among patients, of the product of record and weights; that of
        the record's other directions is 1.
    """

    world: int = 0
    patches: tuple[int, int] = (200, 600)
    dim: int = 64
    spread: float = 0.5
    share: tuple[float, float] = (0.02, 0.05)
    stain: float = 0.1
    ambiguous: float = 0.4
    signal: float = 1.0


@dataclass(frozen=True, eq=False)
class Recorded:
    """Case of a synthetic slide and record, with ground truth.

    Attributes
    ----------
    case
        Case with one bag; its target is the deciding lesion.
    lesions
        (N,) int64, lesion of each patch; -1 for tissue without lesion.
    ambiguous
        Whether the record decides the class.
    weights
        (18 + 10,) unit vector: the record decides for lesion 0 if its product with these
        weights is positive, for lesion 1 if it is negative.
    """

    case: Case
    lesions: NDArray[np.int64]
    ambiguous: bool
    weights: NDArray[np.float32]

    @property
    def bag(self) -> Bag:
        """The only bag of the case."""
        return self.case.bags[0]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Mask of patches of the deciding lesion, (N,) bool."""
        return np.asarray(self.lesions == self.case.target)

    def pointed(self, lesion: int) -> Bag:
        """Return the bag with a record favoring a lesion.

        The record is shifted along the weights until its product with them is `CLEAR` for
        lesion 0, -`CLEAR` for lesion 1.
        """
        clinical = self.bag.clinical
        assert clinical is not None  # every bag of `plant_records` has one
        record = torch.cat(clinical.values).numpy()
        goal = CLEAR if lesion == 0 else -CLEAR
        shifted = record + self.weights * (goal - self.weights @ record)
        return replace(self.bag, clinical=_tokens(shifted))


def plant_records(recipe: Records, count: int, seed: int) -> tuple[Recorded, ...]:
    """Draw `count` patients with slides and records."""
    world = _World(recipe)
    return tuple(
        world.patient(np.random.default_rng([seed, number]), f"{seed}-{number}")
        for number in range(count)
    )


class _World:
    """Distribution shared by all patients of a recipe."""

    def __init__(self, recipe: Records) -> None:
        rng = np.random.default_rng([recipe.world, 2**32 - 2])
        self.recipe = recipe
        self.means = recipe.spread * rng.standard_normal((LESIONS + TISSUES, recipe.dim))
        weights = np.zeros(sum(WIDTHS))
        weights[WIDTHS[0] + rng.permutation(WIDTHS[1])[:TELLING]] = rng.standard_normal(TELLING)
        self.weights = (weights / np.linalg.norm(weights)).astype(np.float32)

    def patient(self, rng: Generator, name: str) -> Recorded:
        ambiguous = bool(rng.random() < self.recipe.ambiguous)
        record = rng.standard_normal(sum(WIDTHS)).astype(np.float32)
        record += self.weights * (self.recipe.signal - 1) * (self.weights @ record)
        decided = int(self.weights @ record < 0)
        target = decided if ambiguous else int(rng.integers(LESIONS))
        cells = tissue_cells(int(rng.integers(*self.recipe.patches, endpoint=True)), rng)
        lesions = self._lesions(cells, (0, 1) if ambiguous else (target,), rng)
        bag = Bag(
            self._features(lesions, rng),
            encoder=ENCODER,
            grid=planted_grid(cells),
            clinical=_tokens(record),
            synthetic=True,
        )
        return Recorded(Case(name, (bag,), target), lesions, ambiguous, self.weights)

    def _lesions(
        self, cells: NDArray[np.int64], kinds: tuple[int, ...], rng: Generator
    ) -> NDArray[np.int64]:
        lesions = np.full(len(cells), -1)
        for kind in kinds:
            free = np.flatnonzero(lesions < 0)
            count = max(1, round(len(cells) * rng.uniform(*self.recipe.share)))
            pieces = min(count, int(rng.integers(1, 4)))
            lesions[free[blobs(cells[free], count, pieces, rng)]] = kind
        return lesions

    def _features(self, lesions: NDArray[np.int64], rng: Generator) -> Tensor:
        mix = rng.dirichlet(np.ones(TISSUES))
        tissue = LESIONS + rng.choice(TISSUES, len(lesions), p=mix)
        x = self.means[np.where(lesions < 0, tissue, lesions)]
        x = x + rng.standard_normal(x.shape)
        x = x + self.recipe.stain * rng.standard_normal(self.recipe.dim)
        return torch.from_numpy(x.astype(np.float32))


def _tokens(record: NDArray[np.float32]) -> ClinicalTokens:
    values = torch.from_numpy(record).split(WIDTHS)
    return ClinicalTokens(tuple(values), torch.ones(len(WIDTHS), dtype=torch.bool))
