"""Patch grid: coordinates, size and stride of patches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.slides.cells import Cells, check_distinct, lay_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue

#: Minimum number of steps between neighboring patches to estimate the stride.
FEWEST_STEPS = 4


@dataclass(frozen=True)
class PatchGrid:
    """Coordinates and size of the square patches of one slide.

    A patch is the square area of a slide that an encoder turns into one feature vector. The
    grid stores the position of every patch in the order of the bag: row i of the features
    belongs to patch i. Maps, areas, exports and checks against the slide all use the grid.

    Positions and sizes are whole level-0 pixels, because all files and levels share this
    frame. The encoder sees a patch at its own resolution: for a slide of 0.25 µm per pixel, a
    grid at 0.5 µm per pixel and 224 pixels has `patch_size` 448 and `pixels` 224.

    Patches may overlap (stride < patch_size), leave gaps, or be off a regular lattice.
    Without known coordinates, a placeholder grid displays the patches in a square.

    Attributes
    ----------
    coords
        (N, 2) int64, (x, y) of each patch's top-left corner in level-0 pixels.
    patch_size
        Side of a patch in level-0 pixels, whole.
    stride
        Step between neighboring patches in level-0 pixels, whole; less than
        `patch_size` where patches overlap.
    pixels
        Side of a patch as the encoder sees it.
    mpp
        Actual µm per pixel of a patch as the encoder sees it:
        slide mpp × patch_size / pixels; None if the slide's mpp is unknown.
    slide_size
        (width, height) of the slide in level-0 pixels; None if unknown.
    made_up
        True for a placeholder grid: coordinates are unknown and serve only for display.
    """

    coords: NDArray[np.int64]
    patch_size: int
    stride: int
    pixels: int
    mpp: float | None = None
    slide_size: tuple[int, int] | None = None
    made_up: bool = False

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 2:
            raise ValueError(f"coords must be (N, 2), not {self.coords.shape}")
        for name in ("patch_size", "stride", "pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def cells(self) -> Cells:
        """Cells shared by all rasters of this grid."""
        return lay_cells(self.coords, self.patch_size)


def make_grid(
    slide: Slide,
    tissue: Tissue,
    mpp: float = 0.5,
    pixels: int = 224,
    overlap: float = 0.0,
    min_tissue: float = 0.25,
) -> PatchGrid:
    """Return a grid of tissue patches by µm per pixel.

    Patches are ordered row by row. Size and stride are rounded once to whole level-0
    pixels; `PatchGrid.mpp` is the µm per pixel after rounding.

    Parameters
    ----------
    slide, tissue
        A slide and its tissue from `find_tissue`.
    mpp, pixels
        Requested µm per pixel, and the side of a patch in pixels of that size.
    overlap
        Overlap of neighboring patches as a share of their side, in [0, 1).
    min_tissue
        Minimum tissue share of a patch, in [0, 1].

    Raises
    ------
    ValueError
        If the slide's pixel size is unknown, if it has no tissue, or if an argument is
        out of its range.
    """
    level0 = slide.resolution.mpp
    if level0 is None:
        raise ValueError(
            f"{slide.name}: the pixel size is unknown, so patches at {mpp:g} µm per pixel "
            "cannot be made: open the slide with mpp=… or make a grid in level-0 pixels"
        )
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be in [0, 1), not {overlap}")
    if not mpp > 0 or pixels < 1:
        raise ValueError(f"mpp {mpp} must be positive and pixels {pixels} at least 1")
    patch_size = round(pixels * mpp / level0)
    stride = round(patch_size * (1 - overlap))
    return lay_grid(slide, tissue, patch_size, stride, pixels, min_tissue)


def lay_grid(
    slide: Slide,
    tissue: Tissue,
    patch_size: int,
    stride: int,
    pixels: int,
    min_tissue: float = 0.25,
) -> PatchGrid:
    """Return a grid of tissue patches sized in level-0 pixels.

    Works without a known pixel size. Patches are ordered row by row; other arguments and
    errors as of `make_grid`.
    """
    if not 0 <= min_tissue <= 1:
        raise ValueError(f"min_tissue must be in [0, 1], not {min_tissue}")
    if not tissue.mask.any():
        raise ValueError(f"{slide.name}: no tissue was detected, so there are no patches")
    width, height = slide.dimensions
    mpp = slide.resolution.mpp
    every = PatchGrid(
        coords=_corners(width, height, patch_size, stride),
        patch_size=patch_size,
        stride=stride,
        pixels=pixels,
        mpp=None if mpp is None else mpp * patch_size / pixels,
        slide_size=(width, height),
    )
    share = tissue.share(every.coords, patch_size)
    kept = every.coords[(share >= min_tissue) & (share > 0)]
    if len(kept) == 0:
        raise ValueError(
            f"{slide.name}: none of {len(every)} patches of {patch_size} level-0 pixels is "
            f"at least {min_tissue:.0%} tissue: lower min_tissue or use smaller patches"
        )
    return replace(every, coords=kept)


def _corners(width: int, height: int, patch_size: int, stride: int) -> NDArray[np.int64]:
    """Return (N, 2) corners of all patches inside the slide."""
    if patch_size < 1 or stride < 1:
        raise ValueError(f"patch size {patch_size} and stride {stride} must be at least 1")
    x = np.arange(0, width - patch_size + 1, stride, dtype=np.int64)
    y = np.arange(0, height - patch_size + 1, stride, dtype=np.int64)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def check_places(grid: PatchGrid, slide: Slide) -> None:
    """Raise ValueError if a grid does not match a slide.

    Checks the number of patches, the size of the slide, the edges and the stride. The
    message names the failed check.
    """
    check_distinct(grid.coords)
    _check_size(grid, slide)
    _check_edges(grid, slide)
    _check_stride(grid, slide)


def _check_size(grid: PatchGrid, slide: Slide) -> None:
    if grid.slide_size is not None and grid.slide_size != slide.dimensions:
        raise ValueError(
            f"{slide.name}: size check: the patches belong to a slide of "
            f"{grid.slide_size[0]} by {grid.slide_size[1]} pixels, this slide has "
            f"{slide.dimensions[0]} by {slide.dimensions[1]}"
        )


def _check_edges(grid: PatchGrid, slide: Slide) -> None:
    low, high = grid.coords.min(axis=0), grid.coords.max(axis=0) + grid.patch_size
    if (low < 0).any() or (high > slide.dimensions).any():
        raise ValueError(
            f"{slide.name}: edge check: patches extend from ({low[0]}, {low[1]}) to "
            f"({high[0]}, {high[1]}), the slide has {slide.dimensions[0]} by "
            f"{slide.dimensions[1]} level-0 pixels: check their level, unit and slide"
        )


def _check_stride(grid: PatchGrid, slide: Slide) -> None:
    stride = modal_stride(grid.coords)
    if stride is not None and stride != grid.stride:
        raise ValueError(
            f"{slide.name}: stride check: most patches are {stride} level-0 pixels apart, "
            f"the grid states {grid.stride}"
        )


def modal_stride(coords: NDArray[np.int64]) -> int | None:
    """Return the most frequent distance between neighbors in level-0 pixels.

    Neighbors are consecutive patches of a row or column. None if there are fewer than
    `FEWEST_STEPS` pairs.
    """
    steps = np.concatenate([_steps(coords, axis) for axis in (0, 1)])
    if len(steps) < FEWEST_STEPS:
        return None
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _steps(coords: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Return distances of neighbors in rows (0) or columns (1)."""
    along, across = coords[:, axis], coords[:, 1 - axis]
    order = np.lexsort((along, across))
    same = np.diff(across[order]) == 0
    return np.asarray(np.diff(along[order])[same])
