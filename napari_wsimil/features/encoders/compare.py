"""Agreement of an encoder with stored features of a slide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.extraction import extract_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.slide import Slide

#: Number of patches to compare, sampled over the whole slide.
PATCHES = 256


@dataclass(frozen=True)
class Agreement:
    """Similarity of stored and recomputed features of the same patches.

    Attributes
    ----------
    patches
        Number of compared patches.
    median, fifth
        Median and 5th percentile of the cosine between the two features of a patch.
    chance
        Median cosine between features of different patches: only higher values show
        agreement.
    """

    patches: int
    median: float
    fifth: float
    chance: float


def agreement(
    slide: Slide, reference: Bag, encoder: PatchEncoder, patches: int = PATCHES
) -> Work[Agreement]:
    """Compare an encoder with the stored features of a slide.

    Yields progress and writes nothing. Patches are read from the slide at the coordinates
    and encoder input size of the reference's grid.

    Raises
    ------
    ValueError
        If the features have no coordinates, are of another slide, or have another dimension
        than the encoder's.
    """
    grid = reference.grid
    if grid is None or not len(grid):
        raise ValueError("the features have no coordinates, so no patches can be encoded")
    if reference.slide and reference.slide != slide.fingerprint:
        raise ValueError(f"the features are of another slide than {slide.name}")
    dim = reference.features.shape[1]
    if dim != encoder.card.dim:
        raise ValueError(
            f"{encoder.card.name} has {encoder.card.dim} features per patch, the file has "
            f"{dim}: the file is of another encoder and cannot be mixed"
        )
    draw = np.random.default_rng(0).permutation(len(grid))[:patches]
    chosen = np.sort(draw)
    sample = replace(grid, coords=grid.coords[chosen])
    ours = (yield from extract_features(slide, sample, encoder)).features.numpy()
    theirs = reference.features.numpy()[chosen]
    same = cosine(ours, theirs)
    other = cosine(ours, np.roll(theirs, len(theirs) // 2 or 1, axis=0))
    median, fifth = np.percentile(same, (50, 5))
    return Agreement(len(chosen), float(median), float(fifth), float(np.median(other)))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N,) cosines between rows of two (N, D) arrays.

    The cosine is 0 if a row is all zero.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines = np.zeros(len(x))
    np.divide((x * y).sum(axis=1), lengths, out=cosines, where=lengths > 0)
    return cosines
