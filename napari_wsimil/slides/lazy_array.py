"""Array-like view of a slide level with lazy reads."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import tokenize

from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_wsimil.slides.pyramid import Pyramid

#: Maximum number of pixels read into memory at once: twice an 8K screen.
MAX_PIXELS = 64 * 2**20
#: Approximate side in pixels of the blocks decoded in parallel.
_BLOCK = 512


class TooLargeError(MemoryError):
    """A read is larger than `MAX_PIXELS`."""


class LevelArray:
    """Lazy uint8 array (rows, columns, 3) of one level.

    Slicing returns a small dask array: its graph contains only the blocks that overlap the
    slice, never those of the whole level. Pixels outside the slide are white. Computing
    more than `MAX_PIXELS` raises `TooLargeError`.

    Parameters
    ----------
    pyramid
        Source of the tiles.
    index
        Number of the level in the pyramid.
    region
        Part of the level in pixels of the level; the whole level by default.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, pyramid: Pyramid, index: int, region: Region | None = None) -> None:
        self._pyramid = pyramid
        self._index = index
        self._token = uuid4().hex  # makes task names unique, even to slides opened in turn
        self._level = level = pyramid.steps[index].level
        x, y, columns, rows = region or Region(0, 0, level.width, level.height)
        self._corner = x, y
        self.shape = (rows, columns, 3)
        width, height = level.tile
        self.chunks = (_spans(y, y + rows, height), _spans(x, x + columns, width), (3,))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> da.Array:
        key = key if isinstance(key, tuple) else (key,)
        if Ellipsis in key:
            at = key.index(Ellipsis)
            key = key[:at] + (slice(None),) * (4 - len(key)) + key[at + 1 :]
        key = key + (slice(None),) * (3 - len(key))
        rows, row_rest = _bounds(key[0], self.shape[0])
        columns, column_rest = _bounds(key[1], self.shape[1])
        part: da.Array = self._read(rows, columns)[row_rest, column_rest, key[2]]
        return part

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if copy is False:
            raise ValueError("pixels are read from disk: use copy=True or copy=None")
        return np.asarray(self[:], dtype=dtype)

    def __deepcopy__(self, _: object) -> Self:
        """Return the array itself: its pixels never change."""
        return self

    def astype(self, dtype: Any, **_: Any) -> NDArray[Any]:
        """Read the whole level as `dtype`; TooLargeError if too large."""
        return np.asarray(self).astype(dtype)

    def _read(self, rows: range, columns: range) -> da.Array:
        if len(rows) * len(columns) > MAX_PIXELS:
            raise TooLargeError(
                f"a read of {len(columns)} × {len(rows)} pixels exceeds the limit of "
                f"{MAX_PIXELS // 2**20} million: zoom in, choose a coarser level, or crop a "
                "smaller region"
            )
        x0, y0 = columns.start + self._corner[0], rows.start + self._corner[1]
        width, height = self._level.tile
        down = _spans(y0, y0 + len(rows), height * max(1, round(_BLOCK / height)))
        across = _spans(x0, x0 + len(columns), width * max(1, round(_BLOCK / width)))
        name = f"slide-{self._token}-{tokenize(rows, columns)}"
        graph = {
            (name, i, j, 0): (self._pyramid.read, self._index, Region(x, y, dx, dy))
            for (i, (y, dy)), (j, (x, dx)) in itertools.product(
                enumerate(_starts(y0, down)), enumerate(_starts(x0, across))
            )
        }
        return da.Array(graph, name, (down, across, (3,)), self.dtype)


def level_arrays(pyramid: Pyramid) -> tuple[LevelArray, ...]:
    """Return lazy arrays of all levels, finest first."""
    return tuple(LevelArray(pyramid, index) for index in range(len(pyramid.steps)))


def display_levels(pyramid: Pyramid) -> tuple[LevelArray, ...]:
    """Return lazy arrays of all levels for napari, finest first.

    napari computes the factor between two levels from their shapes, but level sizes are
    rounded to whole pixels. These arrays therefore start at the slide's corner and extend
    beyond its right and lower border by less than a pixel of the coarsest level. The ratios
    of their shapes equal the factors: exactly if some side in level-0 pixels is whole at
    every level, else to half a pixel of the level.
    """
    levels = [step.level for step in pyramid.steps]
    width = _common_side(levels[0].width, [level.factors[0] for level in levels])
    height = _common_side(levels[0].height, [level.factors[1] for level in levels])
    arrays = []
    for index, level in enumerate(levels):
        x, y = (round(place) for place in level.place(0, 0))
        columns, rows = round(width / level.factors[0]), round(height / level.factors[1])
        arrays.append(LevelArray(pyramid, index, Region(x, y, max(1, columns), max(1, rows))))
    return tuple(arrays)


def _common_side(side: int, factors: list[float]) -> int:
    """Return the side ≥ `side` that best fits all factors."""
    sides = side + np.arange(math.ceil(max(factors)))
    pixels = sides[:, None] / np.array(factors)
    error = np.abs(pixels - np.maximum(1, pixels.round())).max(axis=1).round(3)
    return int(sides[error.argmin()])


def _bounds(key: Any, length: int) -> tuple[range, Any]:
    """Return the index range of `key`, and `key` within it."""
    if isinstance(key, slice):
        touched = range(length)[key]
        if not touched:
            return range(0), slice(None)
        low, high = sorted((touched[0], touched[-1]))
        return range(low, high + 1), slice(None, None, touched.step)
    index = range(length)[int(key)]
    return range(index, index + 1), 0


def _spans(start: int, stop: int, step: int) -> tuple[int, ...]:
    """Split start…stop at the multiples of `step`; return the lengths."""
    cuts = [start, *range((start // step + 1) * step, stop, step), stop]
    return tuple(b - a for a, b in itertools.pairwise(cuts)) if stop > start else (0,)


def _starts(start: int, spans: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for span in spans:
        yield start, span
        start += span
