"""Raster: scores of patches as an array that lies on the slide."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.slides.cells import Lattice
    from napari_wsimil.slides.patch_grid import PatchGrid

_Number = TypeVar("_Number", np.float64, np.int32)


@dataclass(frozen=True)
class Raster:
    """One score per cell of a lattice that lies on the slide.

    Attributes
    ----------
    values
        (rows, columns) float32; NaN where no patch, or no score, is.
    index
        (rows, columns) int32, read-only, which patch a cell belongs to, -1 where none is;
        where patches overlap the last of them, which lies on top.
    origin
        (x, y) of the top-left corner of cell (0, 0) in level-0 pixels.
    step
        Side of a cell in level-0 pixels.
    exact
        True if every edge of every patch is an edge of a cell. Else the edges are right
        to half a cell, because the common step would take more than `MAX_CELLS`.
    """

    values: NDArray[np.float32]
    index: NDArray[np.int32]
    origin: tuple[int, int]
    step: int
    exact: bool


def rasterize(grid: PatchGrid, scores: NDArray[np.floating]) -> Raster:
    """Return the scores of patches as a raster, (N,) numbers in the order of the grid.

    A cell holds the mean of the patches that contain its center; scores that are
    not finite are left out.
    The cell is the finest common step of all coordinates and the patch size, so nothing
    is overwritten and every patch keeps its edges, off-lattice ones too.

    Raises
    ------
    ValueError
        If there are no patches, if patches share a place, if scores and patches differ
        in number, or if the patches are too small and far apart for `MAX_CELLS`.
    """
    values = np.asarray(scores, dtype=np.float32)
    values = np.where(np.isfinite(values), values, np.float32(np.nan))
    if values.shape != (len(grid),):
        raise ValueError(f"scores must be ({len(grid)},), one per patch, not {values.shape}")
    cells = grid.cells
    lattice, index = cells.lattice, cells.index
    painted = np.append(values, np.float32(np.nan))[index]
    if cells.crowded:
        painted = _average(lattice, values, painted)
    return Raster(painted, index, lattice.origin, lattice.step, lattice.exact)


def _average(
    lattice: Lattice, scores: NDArray[np.float32], painted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return means where patches overlap, and elsewhere what is painted already, untouched."""
    known = ~np.isnan(scores)
    ends = lattice.shape, lattice.rows, lattice.columns
    count = pile(known.astype(np.int32), *ends)
    total = pile(np.where(known, scores, 0).astype(np.float64), *ends)
    total[count == 0] = np.nan
    alone = (count == 1) & ~np.isnan(painted)
    return np.where(alone, painted, (total / np.maximum(count, 1)).astype(np.float32))


def pile(
    amounts: NDArray[_Number],
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[_Number]:
    """Return the sum of the amounts of the blocks over each cell of an array.

    Parameters
    ----------
    amounts
        (N,), one per block; sums of floats are right to some 1e-13 of the largest amount.
    shape
        (rows, columns) of the array.
    rows, columns
        (N, 2), where each block begins and where it has ended, within the array.
    """
    steps = np.zeros((shape[0] + 1, shape[1] + 1), amounts.dtype)
    for row, column in itertools.product((0, 1), (0, 1)):
        change = amounts if row == column else -amounts
        np.add.at(steps, (rows[:, row], columns[:, column]), change)
    for axis in (0, 1):
        np.cumsum(steps, axis=axis, out=steps)
    return steps[:-1, :-1]
