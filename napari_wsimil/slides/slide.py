"""Slide: a whole-slide image, opened lazily."""

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

#: As many of the images that are not open are described in a sentence.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Slide:
    """A whole-slide image; close it, or use it as a context manager.

    One frame for all reads: positions are (x, y) in level-0 pixels, sizes are in pixels
    of what is returned, and what lies outside the slide is white.

    Attributes
    ----------
    path
        The file or DICOM folder.
    reader
        Its backend.
    resolution
        µm per level-0 pixel, and where that came from.
    cache
        Decoded tiles of all levels under one byte budget.
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
        """Return the file's own levels, finest first."""
        return self.reader.levels

    @property
    def dimensions(self) -> tuple[int, int]:
        """Return (width, height) in level-0 pixels."""
        return self.levels[0].width, self.levels[0].height

    @property
    def images(self) -> tuple[SlideImage, ...]:
        """Return the candidate slides of the file or folder."""
        return self.reader.images

    @property
    def image(self) -> int:
        """Return the number of the open image: the largest."""
        return self.reader.image

    def notes(self, names: bool = False) -> tuple[str, ...]:
        """Return sentences on images not open and corrected levels.

        Parameters
        ----------
        names
            Whether to call images by their names, which may identify a patient.
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
        """Return 16 hex digits that tell this slide's content from another's."""
        text = f"{self.dimensions} {self.reader.identity}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def reading(self) -> Reading:
        """Return the version of the readers, and what of this slide has changed."""
        return Reading(READER_VERSION, self.reader.changes)

    @cached_property
    def synthetic(self) -> bool:
        """Return whether a phantom was written here, not a patient's tissue."""
        return any("Synthetic =" in text for text in self.reader.properties.values())

    @cached_property
    def arrays(self) -> tuple[LevelArray, ...]:
        """Return all levels, virtual 2× steps between; see `LevelArray`."""
        return level_arrays(self.pyramid_tiles)

    @cached_property
    def display_levels(self) -> tuple[LevelArray, ...]:
        """Return `arrays` in shapes that napari places right; see `lazy.display_levels`."""
        return display_levels(self.pyramid_tiles)

    def read_region(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> NDArray[np.uint8]:
        """Return (height, width, 3) of a region of one of `levels`.

        Parameters
        ----------
        x, y
            Top-left corner in level-0 pixels; a level's pixel (i, j) begins at its
            origin + (i, j) × its factors, the nearest one is taken.
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
            raise ValueError(f"level {level} of {self.path.name}, which has {len(self.levels)}")
        if width < 0 or height < 0:
            raise ValueError(f"a region of {width} × {height} px")
        stored = [step.stored for step in self.pyramid_tiles.steps]
        left, top = self.levels[level].place(x, y)
        corner = Region(round(left), round(top), width, height)
        return self.pyramid_tiles.read(stored.index(level), corner)

    def read_patch(self, x: int, y: int, extent: int, pixels: int) -> NDArray[np.uint8]:
        """Return (pixels, pixels, 3) of a square of `extent` level-0 pixels at (x, y).

        It is read from the coarsest level that is fine enough and averaged by area.
        """
        if extent < 1 or pixels < 1:
            raise ValueError(f"a patch of {extent} px shown as {pixels} px")
        index = self.pyramid_tiles.finest_for(extent / pixels)
        region, box = _cover(self.pyramid_tiles.steps[index].level, x, y, extent, extent)
        return _resized(self.pyramid_tiles.read(index, region), box, (pixels, pixels))

    def thumbnail(self, max_side: int = 2048) -> tuple[NDArray[np.uint8], float]:
        """Return the whole slide as (h, w, 3) with no side above `max_side`, and its downsample.

        Its pixels are squares of that many level-0 pixels from the slide's corner on; where
        the last column or row reaches beyond the border, it shows the slide's last pixels.
        Computed from the tiles, never from the scanner's own thumbnail.
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
        return _resized(pixels, box, (columns, rows)), downsample

    def _squares(self, side: float) -> tuple[int, int]:
        """Return the columns and rows of squares that cover it."""
        columns, rows = (max(1, ceil(whole / side - 1e-6)) for whole in self.dimensions)
        return columns, rows

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Return an associated image as (h, w, 3); a label may show who the patient is."""
        if name not in self.reader.associated:
            known = ", ".join(self.reader.associated) or "none"
            raise ValueError(f"{self.path.name} has no image {name!r}; it has: {known}")
        return self.reader.read_associated(name)

    @property
    def closed(self) -> bool:
        """Return whether it was closed."""
        return self.reader.closed

    def close_too(self, close: Callable[[], object]) -> None:
        """Let `close` be called when this is closed, for what was opened for its sake."""
        self._opened.callback(close)

    def close(self) -> None:
        """Release the file; reading afterwards fails."""
        self.cache.clear()
        self.reader.close()
        self._opened.close()

    def __deepcopy__(self, _: object) -> Self:
        """Return the slide itself: a copy of a layer shows the same file."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cover(
    level: Level, x: float, y: float, width: float, height: float
) -> tuple[Region, tuple[float, float, float, float]]:
    """Return the level pixels that cover a level-0 rectangle.

    Beside them its left, top, right and lower border in pixels of that region.
    """
    (left, top), (right, bottom) = level.place(x, y), level.place(x + width, y + height)
    x0, y0 = floor(left + 1e-9), floor(top + 1e-9)
    region = Region(x0, y0, ceil(right - 1e-9) - x0, ceil(bottom - 1e-9) - y0)
    box = max(0, left - x0), max(0, top - y0), right - x0, bottom - y0
    return region, (*box[:2], min(region.width, box[2]), min(region.height, box[3]))


def _resized(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resize a part of a picture, averaged by area."""
    left, top, right, bottom = box
    if np.allclose(box, (0, 0, *size), rtol=0, atol=1e-6) and pixels.shape[1::-1] == size:
        return pixels
    shrinks = right - left >= size[0] and bottom - top >= size[1]
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(pixels).resize(size, filter_, box))


def open_slide(
    path: str | Path, mpp: float | None = None, cache_bytes: int = DEFAULT_BUDGET
) -> Slide:
    """Return the slide in the file or DICOM folder `path`; only its header is read.

    Parameters
    ----------
    mpp
        µm per level-0 pixel as the user says; overrides the file.
    cache_bytes
        Byte budget of the decoded tiles that are kept.

    Raises
    ------
    SlideError
        Not a slide, cut off, or of a kind that no reader knows.
    ValueError
        `mpp` is outside 0.05–20.
    """
    if mpp is not None and not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
        low, high = PLAUSIBLE_MPP
        raise ValueError(f"mpp is {mpp:g} µm per pixel, outside {low}–{high}")
    path = Path(path)
    reader = open_reader(path)
    resolution = reader.resolution if mpp is None else Resolution(mpp, MppSource.USER)
    return Slide(path, reader, resolution, TileCache(cache_bytes))
