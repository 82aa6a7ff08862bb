"""Cells: the lattice that the rasters of one patch grid share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import maximum_filter1d

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Most cells a raster may have; finer common steps are sampled at this many.
MAX_CELLS = 2**23


@dataclass(frozen=True)
class Lattice:
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

    lattice: Lattice
    index: NDArray[np.int32]
    crowded: bool


def lay_cells(coords: NDArray[np.int64], patch_size: int) -> Cells:
    """Return the cells of patches at (N, 2) coords; errors as of `rasterize`."""
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


def _paint_index(lattice: Lattice) -> tuple[NDArray[np.int32], bool]:
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


def check_distinct(coords: NDArray[np.int64]) -> None:
    """Raise ValueError if there are no patches, or if some share their coordinates."""
    if len(coords) == 0:
        raise ValueError("the grid has no patches")
    ordered = coords[np.lexsort(coords.T)]
    shared = int((ordered[1:] == ordered[:-1]).all(axis=1).sum())
    if shared:
        raise ValueError(
            f"{shared} of {len(coords)} patches have the same coordinates as another: "
            "a map would hide them, so remove the duplicates first"
        )
