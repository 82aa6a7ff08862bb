"""Whole-slide image with lazy reads."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from napari_wsimil.slides.geometry import (
    PLAUSIBLE_MPP,
    Level,
    MppSource,
    Region,
    Resolution,
    SlideError,
    SlideImage,
)
from napari_wsimil.slides.lazy_array import LevelArray, display_levels, level_arrays
from napari_wsimil.slides.pyramid import Pyramid
from napari_wsimil.slides.readers.open_reader import open_reader
from napari_wsimil.slides.reading import READER_VERSION, Reading
from napari_wsimil.slides.tile_cache import DEFAULT_BUDGET, TileCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_wsimil.slides.readers.base import Reader

__all__ = ["Slide", "SlideError", "open_slide"]

#: Maximum number of unopened images listed in a note.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Slide:
    """Whole-slide image, open until `close`; also a context manager.

    A whole-slide image is a scan of a glass slide, up to 200,000 pixels wide. Its file
    stores a pyramid: level 0 at full resolution and coarser levels, each in tiles. Reading
    a region decodes only the tiles that overlap it.

    All reads use one frame: positions are (x, y) in level-0 pixels, sizes are in pixels of
    the returned array, and pixels outside the slide are white. For example,
    `slide.read_region(8000, 4000, 512, 256, level=2)` returns (256, 512, 3) of level 2 with
    its corner at level-0 pixel (8000, 4000).

    Attributes
    ----------
    path
        File or DICOM folder.
    reader
        Reader of the file format.
    resolution
        µm per level-0 pixel, with its source.
    cache
        Decoded tiles of all levels within one byte budget.
    """

    path: Path
    reader: Reader
    resolution: Resolution
    cache: TileCache = field(repr=False)
    _opened: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    @cached_property
    def pyramid_tiles(self) -> Pyramid:
        return Pyramid(self.reader, self.cache)

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(self.path.suffix)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels stored in the file, finest first."""
        return self.reader.levels

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) in level-0 pixels."""
        return self.levels[0].width, self.levels[0].height

    @property
    def images(self) -> tuple[SlideImage, ...]:
        """Images that may be the slide of this file."""
        return self.reader.images

    @property
    def image(self) -> int:
        """Number of the open image among `images`: the largest."""
        return self.reader.image

    def notes(self, names: bool = False) -> tuple[str, ...]:
        """Return notes on unopened images and corrected levels.

        Parameters
        ----------
        names
            Whether notes contain names of images, which may identify a patient.
        """
        if len(self.images) == 1:
            return self.reader.notes
        texts = [image.described(names) for image in self.images]
        shown = texts.pop(self.image)
        where = "folder" if self.path.is_dir() else "file"
        count = f"1 of {len(self.images)} images in the {where} is open"
        others = [*texts[:_NAMED], *([f"{len(texts) - _NAMED} more"] if texts[_NAMED:] else [])]
        return f"{count}: {shown}; not open: {', '.join(others)}", *self.reader.notes

    @cached_property
    def fingerprint(self) -> str:
        """Hash of size and content, 16 hex digits."""
        text = f"{self.dimensions} {self.reader.identity}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def reading(self) -> Reading:
        """Version of the readers, and changes that affect this slide."""
        return Reading(READER_VERSION, self.reader.changes)

    @cached_property
    def synthetic(self) -> bool:
        """True for a synthetic slide written by this package."""
        return any("Synthetic =" in text for text in self.reader.properties.values())

    @cached_property
    def arrays(self) -> tuple[LevelArray, ...]:
        """Lazy arrays of all levels, stored and virtual."""
        return level_arrays(self.pyramid_tiles)

    @cached_property
    def display_levels(self) -> tuple[LevelArray, ...]:
        """Lazy arrays for napari; see `lazy_array.display_levels`."""
        return display_levels(self.pyramid_tiles)

    def read_region(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> NDArray[np.uint8]:
        """Read a region of a level as (height, width, 3).

        Parameters
        ----------
        x, y
            Top-left corner in level-0 pixels, rounded to the nearest pixel of the level;
            pixel (i, j) of a level starts at its origin + (i, j) × its factors.
        width, height
            In pixels of `level`.

        Raises
        ------
        SlideError
            A tile cannot be read.
        ValueError
            There is no such level, or the size is negative.
        """
        if not 0 <= level < len(self.levels):
            coarsest = len(self.levels) - 1
            raise ValueError(f"{self.path.name}: level must be 0 to {coarsest} (got {level})")
        if width < 0 or height < 0:
            raise ValueError(f"width and height must be at least 0 (got {width} × {height} px)")
        stored = [step.stored for step in self.pyramid_tiles.steps]
        left, top = self.levels[level].place(x, y)
        corner = Region(round(left), round(top), width, height)
        return self.pyramid_tiles.read(stored.index(level), corner)

    def read_patch(self, x: int, y: int, extent: int, pixels: int) -> NDArray[np.uint8]:
        """Read a square patch as (pixels, pixels, 3).

        Reads the coarsest level that is fine enough, and averages by area.

        Parameters
        ----------
        x, y
            Top-left corner in level-0 pixels.
        extent
            Side in level-0 pixels.
        pixels
            Side of the returned array.
        """
        if extent < 1 or pixels < 1:
            raise ValueError(f"extent and pixels must be at least 1 (got {extent} and {pixels})")
        index = self.pyramid_tiles.finest_for(extent / pixels)
        region, box = _cover(self.pyramid_tiles.steps[index].level, x, y, extent, extent)
        return _resize(self.pyramid_tiles.read(index, region), box, (pixels, pixels))

    def thumbnail(self, max_side: int = 2048) -> tuple[NDArray[np.uint8], float]:
        """Return a thumbnail (h, w, 3) and its downsample.

        Each pixel is a square of `downsample` level-0 pixels, counted from the slide's
        corner. A last column or row that extends beyond the border repeats the slide's last
        pixels. Computed from the tiles, never from the scanner's own thumbnail.

        Parameters
        ----------
        max_side
            Maximum width and height.
        """
        steps = self.pyramid_tiles.steps
        sizes = [self._squares(max(step.level.factors)) for step in steps]
        fitting = (number for number, size in enumerate(sizes) if max(size) <= max_side)
        index = next(fitting, len(steps) - 1)
        level = steps[index].level
        downsample = max(*level.factors, max(self.dimensions) / max_side)
        columns, rows = self._squares(downsample)
        region, box = _cover(level, 0, 0, columns * downsample, rows * downsample)
        right, bottom = self.pyramid_tiles.covering(level)
        width, height = min(region.width, right - region.x), min(region.height, bottom - region.y)
        inside = Region(region.x, region.y, width, height)
        pixels = np.asarray(LevelArray(self.pyramid_tiles, index, inside))
        beyond = ((0, region.height - height), (0, region.width - width), (0, 0))
        pixels = np.pad(pixels, beyond, mode="edge")
        return _resize(pixels, box, (columns, rows)), downsample

    def _squares(self, side: float) -> tuple[int, int]:
        """Return columns and rows of squares that cover the slide."""
        columns, rows = (max(1, ceil(whole / side - 1e-6)) for whole in self.dimensions)
        return columns, rows

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Read an associated image as (h, w, 3).

        Labels may identify a patient.
        """
        if name not in self.reader.associated:
            known = ", ".join(self.reader.associated) or "none"
            raise ValueError(f"{self.path.name} has no image {name!r}; it has: {known}")
        return self.reader.read_associated(name)

    @property
    def closed(self) -> bool:
        """True once the slide is closed."""
        return self.reader.closed

    def close_too(self, close: Callable[[], object]) -> None:
        """Register `close` to be called when this slide is closed."""
        self._opened.callback(close)

    def close(self) -> None:
        """Close the file; later reads raise SlideError."""
        self.cache.clear()
        self.reader.close()
        self._opened.close()

    def __deepcopy__(self, _: object) -> Self:
        """Return the slide itself: copied layers share the file."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cover(
    level: Level, x: float, y: float, width: float, height: float
) -> tuple[Region, tuple[float, float, float, float]]:
    """Return a level's region that covers a level-0 rectangle.

    Also returns the rectangle's left, top, right and lower border in pixels of the region.
    """
    (left, top), (right, bottom) = level.place(x, y), level.place(x + width, y + height)
    x0, y0 = floor(left + 1e-9), floor(top + 1e-9)
    region = Region(x0, y0, ceil(right - 1e-9) - x0, ceil(bottom - 1e-9) - y0)
    box = max(0, left - x0), max(0, top - y0), right - x0, bottom - y0
    return region, (*box[:2], min(region.width, box[2]), min(region.height, box[3]))


def _resize(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resize a part of an image, averaged by area."""
    left, top, right, bottom = box
    if np.allclose(box, (0, 0, *size), rtol=0, atol=1e-6) and pixels.shape[1::-1] == size:
        return pixels
    shrinks = right - left >= size[0] and bottom - top >= size[1]
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(pixels).resize(size, filter_, box))


def open_slide(
    path: str | Path, mpp: float | None = None, cache_bytes: int = DEFAULT_BUDGET
) -> Slide:
    """Open a slide file or DICOM folder.

    Reads only the header.

    Parameters
    ----------
    mpp
        µm per level-0 pixel from the user; overrides the file.
    cache_bytes
        Byte budget of cached decoded tiles.

    Raises
    ------
    SlideError
        Not a slide, truncated, or of an unsupported format.
    ValueError
        `mpp` is outside 0.05–20.
    """
    if mpp is not None and not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
        low, high = PLAUSIBLE_MPP
        raise ValueError(f"mpp must be between {low} and {high} µm per pixel (got {mpp:g})")
    path = Path(path)
    reader = open_reader(path)
    resolution = reader.resolution if mpp is None else Resolution(mpp, MppSource.USER)
    return Slide(path, reader, resolution, TileCache(cache_bytes))
