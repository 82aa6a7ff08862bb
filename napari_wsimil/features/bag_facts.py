"""Encoder, scale, content hash and statistics of one bag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_wsimil.features.bag import features_digest

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.slides.reading import Reading


@dataclass(frozen=True)
class BagFacts:
    """Metadata and statistics of one bag.

    Small enough to store for every slide of a cohort.

    Attributes
    ----------
    encoder, synthetic, slide, reading
        As in `Bag`.
    mpp, pixels, patch_size, stride
        As in `PatchGrid`; None for bags without coordinates.
    content
        SHA-256 of the features, hexadecimal; equal only for equal features.
    norm
        Median Euclidean length of the rows.
    spread
        Standard deviation across patches, averaged over the D dimensions.
    patches
        N, the number of rows.
    """

    encoder: str
    synthetic: bool
    slide: str
    reading: Reading = field(hash=False)
    mpp: float | None
    pixels: int | None
    patch_size: int | None
    stride: int | None
    content: str
    norm: float
    spread: float
    patches: int


def statistics_of(features: Tensor, most: int = 0) -> tuple[float, float]:
    """Return `norm` and `spread` of (N, D) features.

    A positive `most` limits the number of rows, which are then taken at even steps.
    """
    if not len(features):
        return 0.0, 0.0
    step = max(1, -(-len(features) // most)) if most else 1
    rows = features[::step].double()
    spread = rows.std(dim=0, correction=0).mean().item()
    return rows.norm(dim=1).median().item(), spread


def facts_of(bag: Bag) -> BagFacts:
    """Return metadata and statistics of a bag."""
    grid = bag.grid
    norm, spread = statistics_of(bag.features)
    return BagFacts(
        encoder=bag.encoder,
        synthetic=bag.synthetic,
        slide=bag.slide,
        reading=bag.reading,
        mpp=None if grid is None else grid.mpp,
        pixels=None if grid is None else grid.pixels,
        patch_size=None if grid is None else grid.patch_size,
        stride=None if grid is None else grid.stride,
        content=features_digest((bag,)),
        norm=norm,
        spread=spread,
        patches=len(bag),
    )
