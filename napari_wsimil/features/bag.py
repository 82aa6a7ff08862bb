"""Bag: the features of one slide, in the order of its grid."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.slides.reading import UNKNOWN, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid


@dataclass(frozen=True)
class ClinicalTokens:
    """A record as a model sees it: one vector per group of fields.

    Attributes
    ----------
    values
        One (F_g,) float32 vector per group, standardized with training statistics.
    present
        (G,) bool; False where the whole group is missing.
    """

    values: tuple[Tensor, ...]
    present: Tensor


@dataclass(frozen=True, eq=False)
class Bag:
    """What a model sees of one slide. There is no batch axis: a slide is the batch.

    Attributes
    ----------
    features
        (N, D) float32, finite.
    encoder
        Identity of the encoder that made them (name and hash), as in its card.
    grid
        Where row i lies on the slide; None for bags that have no places.
    clinical
        The patient's record as tokens, if the model takes one.
    finer
        (N, k, D) features of the k sub-patches of each patch, or a callable
        index -> (k, D) that computes those of one patch.
    synthetic
        True where the features came from a phantom.
    slide
        Fingerprint of the slide they came from; empty if unknown.
    reading
        Which version of the readers gave the pixels that were encoded.
    """

    features: Tensor
    encoder: str = ""
    grid: PatchGrid | None = None
    clinical: ClinicalTokens | None = None
    finer: Tensor | Callable[[int], Tensor] | None = None
    synthetic: bool = False
    slide: str = ""
    reading: Reading = UNKNOWN

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise ValueError(f"features must be (N, D), not {tuple(self.features.shape)}")
        if self.grid is not None and len(self.grid) != len(self.features):
            raise ValueError(
                f"{len(self.features)} features for {len(self.grid)} patches: "
                "features and coordinates are not of the same slide or run"
            )
        if not torch.isfinite(self.features).all():
            rows = (~torch.isfinite(self.features)).any(dim=1).sum().item()
            raise ValueError(
                f"{rows} of {len(self.features)} patches have NaN or infinite features"
            )

    def __len__(self) -> int:
        return len(self.features)


def reading_caveats(readings: Iterable[Reading], sure: bool | None = None) -> tuple[str, ...]:
    """Return how features differ from those made now, each with its number of slides.

    Parameters
    ----------
    sure
        Count only slides with known (True) or unknown (False) changes; all if None.
    """
    readings = tuple(readings)
    counts = Counter(r.caveat for r in readings if sure in (None, r.changes is not None))
    return tuple(
        f"{count} of {len(readings)} slides: {caveat}" for caveat, count in counts.items() if caveat
    )


def features_digest(bags: Iterable[Bag]) -> str:
    """Return SHA-256 of the features of bags, one after the other, in hex."""
    digest = hashlib.sha256()
    for bag in bags:
        digest.update(bag.features.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def take_patches(bag: Bag, index: torch.Tensor) -> Bag:
    """Return the bag of the patches in `index` ((n,) int64), places and all."""
    grid, finer = bag.grid, bag.finer
    if grid is not None:
        grid = replace(grid, coords=grid.coords[index.numpy()])
    if isinstance(finer, torch.Tensor):
        finer = finer[index]
    elif finer is not None:
        whole = finer

        def finer(patch: int) -> torch.Tensor:
            return whole(int(index[patch]))

    return replace(bag, features=bag.features[index], grid=grid, finer=finer)
