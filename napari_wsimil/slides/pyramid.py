"""Pyramid of cached tiles; missing levels are computed by halving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_wsimil.slides.geometry import Level, Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_wsimil.slides.readers.base import Reader
    from napari_wsimil.slides.tile_cache import TileCache

#: Maximum longer side in pixels of the coarsest level.
COARSEST = 1024
_VIRTUAL_TILE = (256, 256)


@dataclass(frozen=True)
class Step:
    """One level of a pyramid, stored or virtual.

    Attributes
    ----------
    level
        Geometry of the level.
    stored
        Its number in the file; None for a virtual level, which halves the finer one.
    """

    level: Level
    stored: int | None


class Pyramid:
    """Tiles of all levels, finest first, in 2× steps.

    A file may store few levels, such as every fourth power of two. Virtual levels between
    and below the stored ones are computed from the finer level, so that every step is
    about 2× and zooming is smooth.

    Parameters
    ----------
    reader
        Source of the stored tiles.
    cache
        Cache shared by all levels.
    """

    def __init__(self, reader: Reader, cache: TileCache) -> None:
        self._reader = reader
        self._cache = cache
        self.steps = tuple(_steps(reader.levels))

    def tile(self, index: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return a tile (h, w, 3), cropped to its level."""
        return self._tile(index, column, row, store=True)

    def _tile(self, index: int, column: int, row: int, store: bool) -> NDArray[np.uint8]:
        keep = self._is_small(index)
        return self._cache.get(
            (index, column, row),
            lambda: self._make(index, column, row),
            store=store or keep,
            keep=keep,
        )

    def _is_small(self, index: int) -> bool:
        """Return whether a virtual level is cached as a whole."""
        level = self.steps[index].level
        size = level.width * level.height * 3
        return self.steps[index].stored is None and size <= self._cache.budget // 8

    def read(self, index: int, region: Region, store: bool = True) -> NDArray[np.uint8]:
        """Read a region as (height, width, 3), white outside.

        A level that was rounded down to whole pixels ends before the slide does: its last
        column or row is repeated once.

        Parameters
        ----------
        index
            Number of the level in the pyramid.
        region
            In pixels of that level.
        store
            Whether the tiles are cached.
        """
        level = self.steps[index].level
        x1, y1 = region.x + region.width, region.y + region.height
        if min(region.x, region.y) >= 0 and x1 <= level.width and y1 <= level.height:
            return self._inside(index, region, store)
        columns, rows = self.covering(level)
        x, to_x = _clip_interval(region.x, region.width, level.width, columns)
        y, to_y = _clip_interval(region.y, region.height, level.height, rows)
        out = np.full((region.height, region.width, 3), 255, np.uint8)
        if len(x) and len(y):
            part = Region(int(x[0]), int(y[0]), int(x[-1] - x[0]) + 1, int(y[-1] - y[0]) + 1)
            pixels = self._inside(index, part, store)
            out[to_y, to_x] = pixels[(y - part.y)[:, None], x - part.x]
        return out

    def covering(self, level: Level) -> tuple[int, int]:
        """Return the columns and rows that cover the slide.

        Each is at most one more than the level stores.
        """
        finest = self.steps[0].level
        right, bottom = level.place(finest.width, finest.height)
        columns, rows = math.ceil(right - 1e-6), math.ceil(bottom - 1e-6)
        return (
            max(level.width, min(columns, level.width + 1)),
            max(level.height, min(rows, level.height + 1)),
        )

    def _inside(self, index: int, region: Region, store: bool) -> NDArray[np.uint8]:
        """Read a region that is completely inside its level."""
        level = self.steps[index].level
        x1, y1 = region.x + region.width, region.y + region.height
        out = np.empty((region.height, region.width, 3), np.uint8)
        for column, row in _overlapping_tiles(level, region):
            left, top = column * level.tile[0], row * level.tile[1]
            tile = self._tile(index, column, row, store)
            right, bottom = left + tile.shape[1], top + tile.shape[0]
            x, y = max(left, region.x), max(top, region.y)
            stop_x, stop_y = min(right, x1), min(bottom, y1)
            out[y - region.y : stop_y - region.y, x - region.x : stop_x - region.x] = tile[
                y - top : stop_y - top, x - left : stop_x - left
            ]
        return out

    def finest_for(self, downsample: float) -> int:
        """Return the coarsest level up to `downsample`."""
        fine = [
            number
            for number, step in enumerate(self.steps)
            if max(step.level.factors) <= downsample * (1 + 1e-3)
        ]
        return fine[-1] if fine else 0

    def _make(self, index: int, column: int, row: int) -> NDArray[np.uint8]:
        step = self.steps[index]
        if step.stored is not None:
            return self._reader.read_tile(step.stored, column, row)
        finer, level = self.steps[index - 1].level, step.level
        x, y = column * level.tile[0] * 2, row * level.tile[1] * 2
        width = min(2 * level.tile[0], finer.width - x)
        height = min(2 * level.tile[1], finer.height - y)
        return _halve(self.read(index - 1, Region(x, y, width, height), store=False))


def _steps(stored: tuple[Level, ...]) -> Iterator[Step]:
    """Yield stored levels, with virtual ones in steps above 2×."""
    for number, level in enumerate(stored):
        yield Step(level, number)
        coarser = stored[number + 1].downsample if number + 1 < len(stored) else None
        yield from _virtual_levels(level, coarser)


def _virtual_levels(level: Level, coarser: float | None) -> Iterator[Step]:
    while True:
        level = _half(level)
        if coarser is None:
            if max(level.width, level.height) * 2 <= COARSEST:
                return
        elif level.downsample * 1.5 > coarser:
            return
        yield Step(level, None)


def _half(level: Level) -> Level:
    """Return a level at half resolution, odd sizes rounded up."""
    x, y = level.factors
    size = -(-level.width // 2), -(-level.height // 2)
    return Level(*size, (2 * x, 2 * y), _VIRTUAL_TILE, level.origin)


def _clip_interval(
    start: int, length: int, side: int, covering: int
) -> tuple[NDArray[np.int64], slice]:
    """Return pixel indices of an interval, and their output slice."""
    first, stop = max(start, 0), min(start + length, covering)
    pixels = np.minimum(np.arange(first, stop), side - 1)
    return pixels, slice(first - start, first - start + len(pixels))


def _overlapping_tiles(level: Level, region: Region) -> Iterator[tuple[int, int]]:
    columns, rows = level.tiles
    first = max(0, region.x // level.tile[0]), max(0, region.y // level.tile[1])
    last_column = min(columns - 1, (region.x + region.width - 1) // level.tile[0])
    last_row = min(rows - 1, (region.y + region.height - 1) // level.tile[1])
    for row in range(first[1], last_row + 1):
        for column in range(first[0], last_column + 1):
            yield column, row


def _halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of 2 × 2; repeat odd last lines."""
    odd = pixels.shape[0] % 2, pixels.shape[1] % 2
    if any(odd):
        pixels = np.pad(pixels, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    return np.array(Image.fromarray(pixels).reduce(2))
