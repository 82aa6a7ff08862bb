"""Raster: patch scores as an array aligned with the slide."""

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
    """Patch scores on a lattice of cells.

    A raster is a heatmap in its smallest form. If all patches are on a regular lattice
    without overlap, a cell is one patch. Otherwise the cell is the greatest common step of
    all edges: patches of 448 pixels at a stride of 224 give cells of 224 pixels.

    Attributes
    ----------
    values
        (rows, columns) float32; NaN in cells without a patch or score.
    index
        (rows, columns) int32, read-only, patch number of each cell, -1 without a patch; the
        last patch if several overlap.
    origin
        (x, y) of the top-left corner of cell (0, 0) in level-0 pixels.
    step
        Side of a cell in level-0 pixels.
    exact
        True if every patch edge is a cell edge. Else edges are right to half a cell,
        because the common step would need more than `MAX_CELLS`.
    """

    values: NDArray[np.float32]
    index: NDArray[np.int32]
    origin: tuple[int, int]
    step: int
    exact: bool


def rasterize(grid: PatchGrid, scores: NDArray[np.floating]) -> Raster:
    """Return patch scores as a raster.

    The value of a cell is the mean over the patches that contain its center, without scores
    that are not finite. The cell is the greatest common step of all coordinates and the
    patch size, so no patch overwrites another and every patch keeps its edges, even off a
    regular lattice.

    Parameters
    ----------
    scores
        (N,) numbers in the order of the grid.

    Raises
    ------
    ValueError
        If there are no patches, if patches have equal coordinates, if scores and patches
        differ in number, or if the patches are too small and far apart for `MAX_CELLS`.
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
    """Return `painted` with means in cells of several patches."""
    known = ~np.isnan(scores)
    ends = lattice.shape, lattice.rows, lattice.columns
    count = pile(known.astype(np.int32), *ends)
    total = pile(np.where(known, scores, 0).astype(np.float64), *ends)
    total[count == 0] = np.nan
    single = (count == 1) & ~np.isnan(painted)
    return np.where(single, painted, (total / np.maximum(count, 1)).astype(np.float32))


def pile(
    amounts: NDArray[_Number],
    shape: tuple[int, int],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[_Number]:
    """Sum the amounts of rectangular blocks over each cell.

    Parameters
    ----------
    amounts
        (N,), one per block; sums of floats are accurate to about 1e-13 of the largest amount.
    shape
        (rows, columns) of the result.
    rows, columns
        (N, 2), first and one past the last row or column of each block, within `shape`.
    """
    steps = np.zeros((shape[0] + 1, shape[1] + 1), amounts.dtype)
    for row, column in itertools.product((0, 1), (0, 1)):
        change = amounts if row == column else -amounts
        np.add.at(steps, (rows[:, row], columns[:, column]), change)
    for axis in (0, 1):
        np.cumsum(steps, axis=axis, out=steps)
    return steps[:-1, :-1]
