"""Raster: scores of patches as an array that lies on the slide."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.ndimage import maximum_filter1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.slides.patch_grid import PatchGrid

_Number = TypeVar("_Number", np.float64, np.int32)

#: Most cells a raster may have; finer common steps are sampled at this many.
MAX_CELLS = 2**23


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


@dataclass(frozen=True)
class _Lattice:
    """Where the patches of a grid begin and end, in cells; rows and columns are (N, 2)."""

    origin: tuple[int, int]
    step: int
    exact: bool
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Heights and widths of the patches, which differ by no more than one cell."""
        return np.diff(self.rows)[:, 0], np.diff(self.columns)[:, 0]


@dataclass(frozen=True, eq=False)
class Cells:
    """What the rasters of one grid share, whatever is painted.

    Attributes
    ----------
    lattice
        Where the patches lie on it.
    index
        As of `Raster`; read-only.
    crowded
        Whether a cell belongs to several patches.
    """

    lattice: _Lattice
    index: NDArray[np.int32]
    crowded: bool


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


def lay_cells(grid: PatchGrid) -> Cells:
    """Return the cells of a grid; errors as of `rasterize`."""
    lattice = _lattice(grid)
    index, crowded = _paint_index(lattice)
    index.setflags(write=False)
    return Cells(lattice, index, crowded)


def _lattice(grid: PatchGrid) -> _Lattice:
    check_distinct(grid)
    origin = grid.coords.min(axis=0)
    offsets = grid.coords - origin
    size = offsets.max(axis=0) + grid.patch_size
    common = int(np.gcd.reduce(np.append(offsets.ravel(), grid.patch_size)))
    step = _bounded_step(common, size, grid.patch_size)
    first, last = _cells(offsets, step), _cells(offsets + grid.patch_size, step)
    columns, rows = -(-size // step)
    return _Lattice(
        origin=(int(origin[0]), int(origin[1])),
        step=step,
        exact=step == common,
        shape=(int(rows), int(columns)),
        rows=np.stack([first[:, 1], last[:, 1]], axis=1),
        columns=np.stack([first[:, 0], last[:, 0]], axis=1),
    )


def _bounded_step(common: int, size: NDArray[np.int64], patch_size: int) -> int:
    """Return the common step, or the smallest one that keeps within `MAX_CELLS`."""
    step = common
    while int(np.prod(-(-size // step))) > MAX_CELLS:
        step = max(step + 1, int(step * 1.02))
    if step > patch_size:
        raise ValueError(
            f"patches of {patch_size} pixels over {size[0]} by {size[1]} pixels do not fit "
            f"on a raster of {MAX_CELLS} cells: use larger patches or fewer of them"
        )
    return step


def _cells(edges: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return the first cell whose center is at or after each edge."""
    return -((step - 2 * edges) // (2 * step))


def _paint_index(lattice: _Lattice) -> tuple[NDArray[np.int32], bool]:
    """Return the index raster, and whether any cell belongs to several patches.

    Every patch is the union of four squares as wide as the narrowest patch, one in each of
    its corners, so the last patch over a cell is the largest number that begins in the square
    of that width which ends there.
    """
    index = np.full(lattice.shape, -1, dtype=np.int32)
    heights, widths = lattice.spans
    side = int(min(heights.min(), widths.min()))
    number = np.arange(len(heights), dtype=np.int32)
    for row in (lattice.rows[:, 0], lattice.rows[:, 1] - side):
        for column in (lattice.columns[:, 0], lattice.columns[:, 1] - side):
            np.maximum.at(index, (row, column), number)
    for axis in (0, 1):
        index = maximum_filter1d(
            index, side, axis=axis, mode="constant", cval=-1, origin=(side - 1) // 2
        )
    return index, bool((heights * widths).sum() > np.count_nonzero(index >= 0))


def _average(
    lattice: _Lattice, scores: NDArray[np.float32], painted: NDArray[np.float32]
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


def check_distinct(grid: PatchGrid) -> None:
    """Raise ValueError if there are no patches, or if some share their coordinates."""
    if len(grid) == 0:
        raise ValueError("the grid has no patches")
    ordered = grid.coords[np.lexsort(grid.coords.T)]
    shared = int((ordered[1:] == ordered[:-1]).all(axis=1).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(grid)} patches have the same coordinates as another: "
            "a map would hide them, so remove the duplicates first"
        )
