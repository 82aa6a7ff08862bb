"""Reader over OpenSlide: MIRAX, DICOM, Hamamatsu, Leica and whatever tiffslide leaves."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_wsimil.space.geometry import (
    Level,
    MppSource,
    SlideError,
    stated_resolution,
)
from napari_wsimil.space.readers.color import on_white
from napari_wsimil.space.readers.content import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_TILE = (512, 512)
#: The side of a level above which a header is not believed.
_MAX_SIDE = 2**24


class OpenSlideReader:
    """Tiles of whatever OpenSlide opens; a folder stands for its DICOM series."""

    def __init__(self, path: Path | str) -> None:
        self._path = path = Path(path)
        file = _first_dicom(path) if path.is_dir() else path
        try:
            slide = openslide.OpenSlide(file)
        except openslide.OpenSlideError as error:
            raise SlideError(f"OpenSlide says: {error}") from error
        self._file = _File(slide)
        stated = slide.properties
        sizes = zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        self.levels = tuple(Level(*size, downsample, _TILE) for size, downsample in sizes)
        if any(not 0 < side <= _MAX_SIDE for side in slide.dimensions):
            self.close()
            raise SlideError(f"a slide of {slide.dimensions} px is not plausible")
        self.vendor = stated.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        x, y = (float(stated[name]) if name in stated else None for name in names)
        derived = self.vendor == "generic-tiff"
        source = MppSource.DERIVED if derived else MppSource.HEADER
        self.resolution = stated_resolution(x, y, source)
        self.properties: Mapping[str, str] = dict(stated)
        self.associated = tuple(slide.associated_images)
        self.identity = stated.get("openslide.quickhash-1", "") or content_digest(file)
        self.changes: Mapping[str, int] = {}

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        size = self.levels[level]
        x, y = column * _TILE[0], row * _TILE[1]
        shape = (min(_TILE[0], size.width - x), min(_TILE[1], size.height - y))
        origin = (math.floor(x * size.downsample + 0.5), math.floor(y * size.downsample + 0.5))
        where = f"{self._path.name}: level {level}, tile ({column}, {row})"
        try:
            with self._file.reading(where) as slide:
                return on_white(np.asarray(slide.read_region(origin, level, shape).convert("RGBA")))
        except openslide.OpenSlideError as error:
            raise SlideError(f"{where} cannot be read ({error})") from error

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        with self._file.reading(f"{self._path.name}: {name}") as slide:
            return on_white(np.asarray(slide.associated_images[name].convert("RGBA")))

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Read no more; the file itself closes with the last read that is under way."""
        self._file.close()


class _File:
    """An OpenSlide that is freed once it was closed and the last read under way has ended.

    OpenSlide frees it at once, and whoever still reads from it brings the process down.
    """

    def __init__(self, slide: openslide.OpenSlide) -> None:
        self.closed = False
        self._slide = slide
        self._reads = 0  # under way
        self._lock = threading.Lock()  # never held during a read: reads run side by side

    @contextmanager
    def reading(self, what: str) -> Iterator[openslide.OpenSlide]:
        """Keep the slide open for a read; SlideError if it was closed before."""
        with self._lock:
            if self.closed:
                raise SlideError(f"{what} cannot be read: the slide was closed")
            self._reads += 1
        try:
            yield self._slide
        finally:
            with self._lock:
                self._reads -= 1
                if self.closed and not self._reads:
                    self._slide.close()

    def close(self) -> None:
        with self._lock:
            if not self.closed and not self._reads:
                self._slide.close()
            self.closed = True


def _first_dicom(folder: Path) -> Path:
    files = sorted(folder.glob("*.dcm"))
    if not files:
        raise SlideError(f"the folder {folder.name} holds no DICOM files (*.dcm)")
    return files[0]
