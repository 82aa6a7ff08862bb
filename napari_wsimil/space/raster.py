"""Raster: scores of patches as an array that lies on the slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_wsimil.space.grid import PatchGrid

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
        (rows, columns) int32, which patch a cell belongs to, -1 where none is; where
        patches overlap the last of them, which lies on top.
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


def rasterize(grid: PatchGrid, scores: NDArray[np.floating]) -> Raster:
    """Return the scores of patches as a raster, (N,) numbers in the order of the grid.

    A cell holds the mean of the patches that contain its center, NaN scores left out.
    The cell is the finest common step of all coordinates and the patch size, so nothing
    is overwritten and every patch keeps its edges, off-lattice ones too.

    Raises
    ------
    ValueError
        If there are no patches, if patches share a place, if scores and patches differ
        in number, or if the patches are too small and far apart for `MAX_CELLS`.
    """
    values = np.asarray(scores, dtype=np.float32)
    if values.shape != (len(grid),):
        raise ValueError(f"scores must be ({len(grid)},), one per patch, not {values.shape}")
    lattice = _lattice(grid)
    index, crowded = _paint_index(lattice)
    painted = _paint_mean(lattice, values) if crowded else _look_up(index, values)
    return Raster(painted, index, lattice.origin, lattice.step, lattice.exact)


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
    """Return the index raster, and whether any cell belongs to several patches."""
    index = np.full(lattice.shape, -1, dtype=np.int32)
    spans = np.stack([lattice.rows, lattice.columns])
    if (spans[..., 1] - spans[..., 0] == 1).all():
        index[lattice.rows[:, 0], lattice.columns[:, 0]] = np.arange(len(lattice.rows))
    else:
        for i, cells in enumerate(_blocks(lattice)):
            index[cells] = i
    covered = int(np.prod(spans[..., 1] - spans[..., 0], axis=0).sum())
    return index, bool(covered > np.count_nonzero(index >= 0))


def _paint_mean(lattice: _Lattice, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.zeros(lattice.shape, dtype=np.float64)
    count = np.zeros(lattice.shape, dtype=np.int32)
    for cells, score in zip(_blocks(lattice), scores, strict=True):
        if not np.isnan(score):
            total[cells] += score
            count[cells] += 1
    total[count == 0] = np.nan
    return (total / np.maximum(count, 1)).astype(np.float32)


def _look_up(index: NDArray[np.int32], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.append(scores, np.float32(np.nan))[index]


def _blocks(lattice: _Lattice) -> Iterator[tuple[slice, slice]]:
    for (top, bottom), (left, right) in zip(
        lattice.rows.tolist(), lattice.columns.tolist(), strict=True
    ):
        yield slice(top, bottom), slice(left, right)


def check_distinct(grid: PatchGrid) -> None:
    """Raise ValueError if there are no patches, or if some share their coordinates."""
    if len(grid) == 0:
        raise ValueError("the grid has no patches")
    shared = len(grid) - len(np.unique(grid.coords, axis=0))
    if shared:
        raise ValueError(
            f"{shared} of {len(grid)} patches have the same coordinates as another: "
            "a map would hide them, so remove the duplicates first"
        )
