"""Bag: patch features of one slide, input of MIL models.

In multiple-instance learning (MIL) a slide is a bag and its patches are the instances:
only the bag has a label. A bag therefore stores one feature vector per patch, in the order
of the slide's patch grid, and models read bags rather than files or pixels.

For example, a slide with 5,000 patches and an encoder of 1,024 dimensions gives
`Bag(features)` with features of (5000, 1024); its `grid` has the 5,000 patch corners, so
that a weight per patch can be drawn on the slide. A bag without a grid can be used for
predictions, but its maps have no positions on the slide.
"""

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
    """Clinical record as model input, one vector per field group.

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
    """Model input for one slide: patch features and their metadata.

    There is no batch axis: a slide is the batch.

    Attributes
    ----------
    features
        (N, D) float32, finite.
    encoder
        Identity (name and hash) of the encoder that computed them, as in its card.
    grid
        Position of each row on the slide; None for bags without coordinates.
    clinical
        The patient's record as tokens, if the model uses one.
    finer
        (N, k, D) features of the k sub-patches of each patch, or a callable
        index -> (k, D) that computes them for one patch.
    synthetic
        True if the features come from a synthetic slide.
    slide
        Fingerprint of their slide; empty if unknown.
    reading
        Version of the slide readers that produced the encoded pixels.
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
                "features and coordinates belong to different slides or runs"
            )
        if not torch.isfinite(self.features).all():
            rows = (~torch.isfinite(self.features)).any(dim=1).sum().item()
            raise ValueError(
                f"{rows} of {len(self.features)} patches have NaN or infinite features"
            )

    def __len__(self) -> int:
        return len(self.features)


def reading_caveats(readings: Iterable[Reading], sure: bool | None = None) -> tuple[str, ...]:
    """Return differences from features extracted now, with slide counts.

    Each sentence begins with its number of slides.

    Parameters
    ----------
    sure
        Count only slides with known (True) or unknown (False) changes; None counts all.
    """
    readings = tuple(readings)
    counts = Counter(r.caveat for r in readings if sure in (None, r.changes is not None))
    return tuple(
        f"{count} of {len(readings)} slides: {caveat}" for caveat, count in counts.items() if caveat
    )


def features_digest(bags: Iterable[Bag]) -> str:
    """Return the SHA-256 of concatenated bag features, hexadecimal."""
    digest = hashlib.sha256()
    for bag in bags:
        digest.update(bag.features.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def take_patches(bag: Bag, index: torch.Tensor) -> Bag:
    """Return the bag of selected patches.

    Features, coordinates and sub-patch features are selected alike. `index` is (n,) int64.
    """
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
