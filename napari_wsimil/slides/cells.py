"""Cell lattice shared by all rasters of a patch grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Maximum number of cells of a raster; a finer common step is resampled to fit.
MAX_CELLS = 2**23


@dataclass(frozen=True)
class Lattice:
    """Positions of a grid's patches on a lattice of cells.

    Attributes
    ----------
    origin
        (x, y) of the top-left corner of cell (0, 0) in level-0 pixels.
    step
        Side of a cell in level-0 pixels.
    exact
        True if every patch edge is a cell edge, else edges are right to half a cell.
    shape
        (rows, columns) of the lattice.
    rows, columns
        (N, 2), first cell of each patch and the cell after its last one.
    """

    origin: tuple[int, int]
    step: int
    exact: bool
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Heights and widths of the patches in cells.

        Each differs by at most one cell between patches.
        """
        return np.diff(self.rows)[:, 0], np.diff(self.columns)[:, 0]


@dataclass(frozen=True, eq=False)
class Cells:
    """Lattice and patch index shared by a grid's rasters.

    Attributes
    ----------
    lattice
        Position of each patch.
    index
        (rows, columns) int32, patch number of each cell, see `Raster`; read-only.
    crowded
        Whether any cell belongs to several patches.
    """

    lattice: Lattice
    index: NDArray[np.int32]
    crowded: bool


def lay_cells(coords: NDArray[np.int64], patch_size: int) -> Cells:
    """Return the cells of patches at (N, 2) level-0 coordinates.

    Raises the errors of `rasterize`.
    """
    lattice = _lattice(coords, patch_size)
    index, crowded = _paint_index(lattice)
    index.setflags(write=False)
    return Cells(lattice, index, crowded)


def _lattice(coords: NDArray[np.int64], patch_size: int) -> Lattice:
    check_distinct(coords)
    origin = coords.min(axis=0)
    offsets = coords - origin
    size = offsets.max(axis=0) + patch_size
    common = int(np.gcd.reduce(np.append(offsets.ravel(), patch_size)))
    step = _bounded_step(common, size, patch_size)
    first, last = _cells(offsets, step), _cells(offsets + patch_size, step)
    columns, rows = -(-size // step)
    return Lattice(
        origin=(int(origin[0]), int(origin[1])),
        step=step,
        exact=step == common,
        shape=(int(rows), int(columns)),
        rows=np.stack([first[:, 1], last[:, 1]], axis=1),
        columns=np.stack([first[:, 0], last[:, 0]], axis=1),
    )


def _bounded_step(common: int, size: NDArray[np.int64], patch_size: int) -> int:
    """Return the common step, or the smallest within `MAX_CELLS`."""
    step = common
    while int(np.prod(-(-size // step))) > MAX_CELLS:
        step = max(step + 1, int(step * 1.02))
    if step > patch_size:
        raise ValueError(
            f"patches of {patch_size} pixels over {size[0]} by {size[1]} pixels do not fit "
            f"on a raster of {MAX_CELLS} cells: use larger or fewer patches"
        )
    return step


def _cells(edges: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Return the first cell centered at or after each edge."""
    return -((step - 2 * edges) // (2 * step))


def _paint_index(lattice: Lattice) -> tuple[NDArray[np.int32], bool]:
    """Return the index raster, and whether patches overlap.

    Every patch is the union of four squares, one in each corner, with the width of the
    narrowest patch. The last patch over a cell is therefore the largest number among the
    squares that start within that width before the cell.
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


def check_distinct(coords: NDArray[np.int64]) -> None:
    """Raise ValueError for an empty grid or duplicate coordinates."""
    if len(coords) == 0:
        raise ValueError("the grid has no patches")
    ordered = coords[np.lexsort(coords.T)]
    duplicates = int((ordered[1:] == ordered[:-1]).all(axis=1).sum())
    if duplicates:
        raise ValueError(
            f"{duplicates} of {len(coords)} patches have the same coordinates as another: "
            "a map would hide them, so remove the duplicates first"
        )
