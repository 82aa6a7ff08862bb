"""Blank slide: a canvas for patches whose slide is not there."""

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

#: Gray of the canvas, on which every color of a map can be told.
_GRAY = 222
_TILE = (512, 512)
_CACHE = 2**22
#: Side of a patch and of its cell where nobody knows the places, in pixels of the canvas.
_MADE_UP = 256


class BlankReader:
    """Gray tiles of a slide that has no file."""

    vendor = "no slide"
    associated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image = 0
    closed = False

    def __init__(self, size: tuple[int, int], mpp: float | None, identity: str, synthetic: bool):
        self.levels = _levels(*size)
        source = MppSource.UNKNOWN if mpp is None else MppSource.DERIVED
        note = "there is no slide to state it" if mpp is None else ""
        self.resolution = Resolution(mpp, source, note)
        self.images: tuple[SlideImage, ...] = (SlideImage("no slide", size, mpp),)
        self.identity = identity
        self.properties: Mapping[str, str] = {"note": "Synthetic = True"} if synthetic else {}
        self.changes: Mapping[str, int] = {}

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return (h, w, 3) of gray, cut off at the level's border."""
        found = self.levels[level]
        width = min(_TILE[0], found.width - column * _TILE[0])
        height = min(_TILE[1], found.height - row * _TILE[1])
        return np.full((height, width, 3), _GRAY, np.uint8)

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """Raise SlideError: there is none."""
        raise SlideError(f"there is no slide, and no image {name!r} of it")

    def close(self) -> None:
        """Do nothing: no file is open."""
        self.closed = True


def blank_slide(grid: PatchGrid, identity: str, synthetic: bool = False) -> Slide:
    """Return a gray slide as large as a grid says, or as its patches need.

    Parameters
    ----------
    grid
        Of the patches that are to lie on it.
    identity
        Tells it from others, such as a hash of the features.
    synthetic
        Whether the features are of a phantom.
    """
    far = grid.coords.max(axis=0) + grid.patch_size if len(grid) else np.array([1, 1])
    width, height = (max(1, int(side)) for side in grid.slide_size or far)
    mpp = None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size
    reader = BlankReader((width, height), mpp, f"blank {identity}", synthetic)
    return Slide(Path("no slide"), reader, reader.resolution, TileCache(_CACHE))


def is_blank(slide: Slide) -> bool:
    """Return whether a slide is a canvas alone."""
    return isinstance(slide.reader, BlankReader)


def made_up_grid(patches: int) -> PatchGrid:
    """Return places that are none: patches row by row, in a square, in the order of their file.

    A model that needs places refuses it, and nothing is exported at them.
    """
    columns = max(1, math.isqrt(max(0, patches - 1)) + 1)
    number = np.arange(patches, dtype=np.int64)
    coords = np.stack([number % columns, number // columns], axis=1) * _MADE_UP
    return PatchGrid(coords, _MADE_UP, _MADE_UP, _MADE_UP, made_up=True)


def identity_of(rows: NDArray[np.float32]) -> str:
    """Return a text that is equal for the same features alone."""
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]


def _levels(width: int, height: int) -> tuple[Level, ...]:
    """Return the size and its halves down to one tile."""
    found, downsample = [Level(width, height, (1.0, 1.0), _TILE)], 1.0
    while max(found[-1].width, found[-1].height) > _TILE[0]:
        downsample *= 2
        sides = math.ceil(width / downsample), math.ceil(height / downsample)
        found.append(Level(*sides, (downsample, downsample), _TILE))
    return tuple(found)
