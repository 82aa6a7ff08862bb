"""PatchGrid: where the patches of a slide lie."""

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

#: Fewer steps than this between patches do not tell the stride.
FEWEST_STEPS = 4


@dataclass(frozen=True)
class PatchGrid:
    """Square patches of one slide; row i of a bag is patch i of its grid.

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
        Actual µm per pixel at which the encoder sees a patch, that is
        slide mpp × patch_size / pixels; None if the slide's is unknown.
    slide_size
        (width, height) of the slide in level-0 pixels, if known.
    made_up
        True where nobody knows the places and patches are only laid out to be seen.
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
        """Return the cells that scores are painted on, laid once: every map of a bag has them."""
        return lay_cells(self.coords, self.patch_size)


def make_grid(
    slide: Slide,
    tissue: Tissue,
    mpp: float = 0.5,
    pixels: int = 224,
    overlap: float = 0.0,
    min_tissue: float = 0.25,
) -> PatchGrid:
    """Return the patches on tissue at a stated µm per pixel, row by row.

    Size and stride are rounded once to whole level-0 pixels; the grid states the µm per
    pixel that this really gives.

    Parameters
    ----------
    slide, tissue
        The slide and what `find_tissue` found on it.
    mpp, pixels
        µm per pixel wanted, and the side of a patch in pixels of that size.
    overlap
        Share of a patch's side that its neighbor repeats, in [0, 1).
    min_tissue
        Least share of a patch that must be tissue, in [0, 1].

    Raises
    ------
    ValueError
        If the slide's pixel size is unknown, if it has no tissue, or if an argument is
        out of its range.
    """
    level0 = slide.resolution.mpp
    if level0 is None:
        raise ValueError(
            f"{slide.name}: the size of a pixel is unknown, so {mpp:g} µm per pixel has no "
            "meaning: open the slide with mpp=… or lay a grid in level-0 pixels"
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
    """Return the patches on tissue, size and stride in level-0 pixels, row by row.

    Needs no pixel size; arguments and errors otherwise as for `make_grid`.
    """
    if not 0 <= min_tissue <= 1:
        raise ValueError(f"min_tissue must be in [0, 1], not {min_tissue}")
    if not tissue.mask.any():
        raise ValueError(f"{slide.name}: no tissue was found, so there is nothing to patch")
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
    """Return (N, 2) corners of all patches wholly on the slide, row by row."""
    if patch_size < 1 or stride < 1:
        raise ValueError(f"patch size {patch_size} and stride {stride} must be at least 1")
    x = np.arange(0, width - patch_size + 1, stride, dtype=np.int64)
    y = np.arange(0, height - patch_size + 1, stride, dtype=np.int64)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def check_places(grid: PatchGrid, slide: Slide) -> None:
    """Raise ValueError naming the check by which patches do not belong on a slide.

    The number of patches, the size of the slide, the edges and the stride are checked.
    """
    check_distinct(grid.coords)
    _check_size(grid, slide)
    _check_edges(grid, slide)
    _check_stride(grid, slide)


def _check_size(grid: PatchGrid, slide: Slide) -> None:
    if grid.slide_size is not None and grid.slide_size != slide.dimensions:
        raise ValueError(
            f"{slide.name}: size check: the patches are of a slide of "
            f"{grid.slide_size[0]} by {grid.slide_size[1]} pixels, this one has "
            f"{slide.dimensions[0]} by {slide.dimensions[1]}"
        )


def _check_edges(grid: PatchGrid, slide: Slide) -> None:
    low, high = grid.coords.min(axis=0), grid.coords.max(axis=0) + grid.patch_size
    if (low < 0).any() or (high > slide.dimensions).any():
        raise ValueError(
            f"{slide.name}: edge check: patches reach from ({low[0]}, {low[1]}) to "
            f"({high[0]}, {high[1]}), the slide has {slide.dimensions[0]} by "
            f"{slide.dimensions[1]} level-0 pixels: are the coordinates of another level, "
            "unit or slide?"
        )


def _check_stride(grid: PatchGrid, slide: Slide) -> None:
    stride = modal_stride(grid.coords)
    if stride is not None and stride != grid.stride:
        raise ValueError(
            f"{slide.name}: stride check: patches mostly lie {stride} level-0 pixels apart, "
            f"the grid says {grid.stride}"
        )


def modal_stride(coords: NDArray[np.int64]) -> int | None:
    """Return the most frequent step to the next patch of a row or column, in level-0 pixels.

    None where fewer than `FEWEST_STEPS` patches have a neighbor in their row or column.
    """
    steps = np.concatenate([_steps(coords, axis) for axis in (0, 1)])
    if len(steps) < FEWEST_STEPS:
        return None
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _steps(coords: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Return the distances to the next patch of the same row (axis 0) or column (1)."""
    along, across = coords[:, axis], coords[:, 1 - axis]
    order = np.lexsort((along, across))
    same = np.diff(across[order]) == 0
    return np.asarray(np.diff(along[order])[same])
