"""Slide: a whole-slide image, opened lazily."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from napari_wsimil.space.cache import DEFAULT_BUDGET, TileCache
from napari_wsimil.space.geometry import (
    PLAUSIBLE_MPP,
    Level,
    MppSource,
    Region,
    Resolution,
    SlideError,
)
from napari_wsimil.space.lazy import dask_array, level_arrays
from napari_wsimil.space.pyramid import Pyramid
from napari_wsimil.space.readers import Reader, open_reader
from napari_wsimil.space.reading import READER_VERSION, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array as da
    from numpy.typing import NDArray

    from napari_wsimil.space.lazy import LevelArray

__all__ = ["Slide", "SlideError", "open_slide"]


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
        """Return the levels for display, virtual 2× steps between; see `LevelArray`."""
        return level_arrays(self.pyramid_tiles)

    @cached_property
    def pyramid(self) -> tuple[da.Array, ...]:
        """Return the file's own levels as ordinary dask arrays, for computing."""
        steps = self.pyramid_tiles.steps
        return tuple(
            dask_array(self.pyramid_tiles, index)
            for index, step in enumerate(steps)
            if step.stored is not None
        )

    def read_region(
        self, x: int, y: int, width: int, height: int, level: int = 0
    ) -> NDArray[np.uint8]:
        """Return (height, width, 3) of a region of one of `levels`.

        Parameters
        ----------
        x, y
            Top-left corner in level-0 pixels; a level's pixel (i, j) begins at
            (i, j) × its downsample, the nearest one is taken.
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
        downsample = self.levels[level].downsample
        corner = Region(round(x / downsample), round(y / downsample), width, height)
        return self.pyramid_tiles.read(stored.index(level), corner)

    def read_patch(self, x: int, y: int, extent: int, pixels: int) -> NDArray[np.uint8]:
        """Return (pixels, pixels, 3) of a square of `extent` level-0 pixels at (x, y).

        It is read from the coarsest level that is fine enough and averaged by area.
        """
        if extent < 1 or pixels < 1:
            raise ValueError(f"a patch of {extent} px shown as {pixels} px")
        index = self.pyramid_tiles.finest_for(extent / pixels)
        downsample = self.pyramid_tiles.steps[index].level.downsample
        left, top, side = x / downsample, y / downsample, extent / downsample
        x0, y0 = int(np.floor(left)), int(np.floor(top))
        width, height = int(np.ceil(left + side)) - x0, int(np.ceil(top + side)) - y0
        region = self.pyramid_tiles.read(index, Region(x0, y0, width, height))
        if (width, height) == (pixels, pixels) and left == x0 and top == y0:
            return region
        box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
        filter_ = Image.Resampling.BOX if side >= pixels else Image.Resampling.BICUBIC
        return np.array(Image.fromarray(region).resize((pixels, pixels), filter_, box))

    def thumbnail(self, max_side: int = 2048) -> tuple[NDArray[np.uint8], float]:
        """Return the whole slide as (h, w, 3) with no side above `max_side`, and its downsample.

        Computed from the tiles, never from the scanner's own thumbnail.
        """
        longest = max(self.dimensions)
        steps = self.pyramid_tiles.steps
        index = next(
            (
                number
                for number, step in enumerate(steps)
                if max(step.level.width, step.level.height) <= max_side
            ),
            len(steps) - 1,
        )
        level = steps[index].level
        pixels = np.asarray(self.arrays[index])
        if max(level.width, level.height) <= max_side:
            return pixels, level.downsample
        image = Image.fromarray(pixels)
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
        return np.array(image), longest / max(image.size)

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
