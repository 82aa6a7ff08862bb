"""Agreement: whether an encoder gives what a file has for the same patches of a slide."""

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

#: Patches that are compared, drawn all over the slide.
PATCHES = 256


@dataclass(frozen=True)
class Agreement:
    """How alike two features of the same patch are.

    Attributes
    ----------
    patches
        How many were compared.
    median, fifth
        Median and 5th percentile of the cosine between the two features of a patch.
    chance
        Median cosine between the features of different patches: what agreement is worth
        shows only above it.
    """

    patches: int
    median: float
    fifth: float
    chance: float


def agreement(
    slide: Slide, reference: Bag, encoder: PatchEncoder, patches: int = PATCHES
) -> Work[Agreement]:
    """Yield progress; return how well an encoder agrees with the features in a file.

    Nothing is written. The slide's own patches are read as the file says, at the pixels
    that it says the encoder saw.

    Raises
    ------
    ValueError
        If the features have no places, are of another slide, or of another width than the
        encoder's.
    """
    grid = reference.grid
    if grid is None or not len(grid):
        raise ValueError("the features have no places, so nothing can be encoded there")
    if reference.slide and reference.slide != slide.fingerprint:
        raise ValueError(f"the features are of another slide than {slide.name}")
    dim = reference.features.shape[1]
    if dim != encoder.card.dim:
        raise ValueError(
            f"{encoder.card.name} gives {encoder.card.dim} numbers for a patch, the file has "
            f"{dim}: these are features of another encoder and cannot be mixed"
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
    """Return (N,) cosines between rows of two (N, D) arrays; 0 where a row is all zero."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    found = np.zeros(len(x))
    np.divide((x * y).sum(axis=1), lengths, out=found, where=lengths > 0)
    return found
