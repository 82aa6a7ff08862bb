"""Blank slide and placeholder grid for features without a slide."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.slides.geometry import Level, MppSource, Resolution, SlideError, SlideImage
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import Slide
from napari_wsimil.slides.tile_cache import TileCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Gray value of the canvas; every map color is visible on it.
_GRAY = 222
_TILE = (512, 512)
_CACHE = 2**22
#: Side and stride of a patch of a placeholder grid, in pixels of the canvas.
_PLACEHOLDER_SIDE = 256


class BlankReader:
    """Reader of gray tiles for a slide without a file."""

    vendor = "no slide"
    associated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image = 0
    closed = False

    def __init__(self, size: tuple[int, int], mpp: float | None, identity: str, synthetic: bool):
        self.levels = _levels(*size)
        source = MppSource.UNKNOWN if mpp is None else MppSource.DERIVED
        note = "there is no slide file" if mpp is None else ""
        self.resolution = Resolution(mpp, source, note)
        self.images: tuple[SlideImage, ...] = (SlideImage("no slide", size, mpp),)
        self.identity = identity
        self.properties: Mapping[str, str] = {"note": "Synthetic = True"} if synthetic else {}
        self.changes: Mapping[str, int] = {}

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return gray (h, w, 3), cropped to its level."""
        size = self.levels[level]
        width = min(_TILE[0], size.width - column * _TILE[0])
        height = min(_TILE[1], size.height - row * _TILE[1])
        return np.full((height, width, 3), _GRAY, np.uint8)

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """Raise SlideError: a blank slide has no associated images."""
        raise SlideError(f"there is no slide file, so there is no image {name!r}")

    def close(self) -> None:
        """Do nothing: no file is open."""
        self.closed = True


def blank_slide(grid: PatchGrid, identity: str, synthetic: bool = False) -> Slide:
    """Return a gray slide of the size of a grid.

    The size is that of the grid's slide if known, else the extent of its patches.

    Parameters
    ----------
    grid
        Patches to display on the slide.
    identity
        Unique text, such as a hash of the features.
    synthetic
        Whether the features belong to a synthetic slide.
    """
    extent = grid.coords.max(axis=0) + grid.patch_size if len(grid) else np.array([1, 1])
    width, height = (max(1, int(side)) for side in grid.slide_size or extent)
    mpp = None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size
    reader = BlankReader((width, height), mpp, f"blank {identity}", synthetic)
    return Slide(Path("no slide"), reader, reader.resolution, TileCache(_CACHE))


def is_blank(slide: Slide) -> bool:
    """Return whether a slide is a blank canvas."""
    return isinstance(slide.reader, BlankReader)


def made_up_grid(patches: int) -> PatchGrid:
    """Return a grid of placeholder coordinates in a square.

    Patches are placed row by row in the order of their file. Models that need coordinates
    reject this grid, and exports omit its coordinates.
    """
    columns = max(1, math.isqrt(max(0, patches - 1)) + 1)
    number = np.arange(patches, dtype=np.int64)
    coords = np.stack([number % columns, number // columns], axis=1) * _PLACEHOLDER_SIDE
    side = _PLACEHOLDER_SIDE
    return PatchGrid(coords, side, side, side, made_up=True)


def identity_of(rows: NDArray[np.float32]) -> str:
    """Return a hash of features as 16 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]


def _levels(width: int, height: int) -> tuple[Level, ...]:
    """Return levels, halved until one tile covers the last."""
    levels, downsample = [Level(width, height, (1.0, 1.0), _TILE)], 1.0
    while max(levels[-1].width, levels[-1].height) > _TILE[0]:
        downsample *= 2
        sides = math.ceil(width / downsample), math.ceil(height / downsample)
        levels.append(Level(*sides, (downsample, downsample), _TILE))
    return tuple(levels)
