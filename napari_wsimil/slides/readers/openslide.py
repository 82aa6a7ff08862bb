"""Reader based on OpenSlide: MIRAX, DICOM, Hamamatsu, Leica and others."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_wsimil.slides.geometry import (
    Level,
    MppSource,
    SlideError,
    SlideImage,
    stated_resolution,
)
from napari_wsimil.slides.readers.color import on_white
from napari_wsimil.slides.readers.content_hash import content_digest
from napari_wsimil.slides.readers.dicom import (
    Matrix,
    Placed,
    area,
    as_image,
    place_level,
    read_matrices,
    slides_of,
)
from napari_wsimil.slides.readers.images import images_of_file
from napari_wsimil.slides.readers.levels import level_factors, level_name, level_notes, moves

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_TILE = (512, 512)
#: Maximum number of pixels by which a read starts before its region.
_BACK = 16
#: Maximum plausible side of a slide in pixels.
_MAX_SIDE = 2**24


class OpenSlideReader:
    """Tiles of all formats of OpenSlide; folders are DICOM series."""

    def __init__(self, path: Path | str) -> None:
        self._path = path = Path(path)
        matrices = list(read_matrices(path)) if path.is_dir() else []
        slides = slides_of(matrices)
        file = _largest(path, slides) if path.is_dir() else path
        try:
            slide = openslide.OpenSlide(file)
        except openslide.OpenSlideError as error:
            raise SlideError(f"OpenSlide reports: {error}") from error
        self._file = _File(slide)
        if any(not 0 < side <= _MAX_SIDE for side in slide.dimensions):
            self.close()
            raise SlideError(f"a slide of {slide.dimensions} px is not plausible")
        stated = slide.properties
        self.vendor = stated.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
        try:
            if self.vendor == "dicom":
                matrices = matrices or list(read_matrices(file.parent))
                self._stored, self.notes = _dicom_levels(slide, matrices)
            else:
                self._stored, self.notes = _levels(slide)
            self.images, self.image = _images(slide, self.vendor, file, slides)
        except SlideError:
            self.close()
            raise
        self.levels = tuple(stored.placed.level for stored in self._stored)
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        x, y = (float(stated[name]) if name in stated else None for name in names)
        derived = self.vendor == "generic-tiff"
        source = MppSource.DERIVED if derived else MppSource.HEADER
        self.resolution = stated_resolution(x, y, source)
        self.properties: Mapping[str, str] = dict(stated)
        self.associated = tuple(slide.associated_images)
        self.identity = stated.get("openslide.quickhash-1", "") or content_digest(file)
        moved = any(moves(one.placed.level, one.divisor) for one in self._stored)
        self.changes: Mapping[str, int] = {"levels": 2} if moved else {}

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        size, stored = self.levels[level], self._stored[level]
        x, y = column * _TILE[0], row * _TILE[1]
        width, height = min(_TILE[0], size.width - x), min(_TILE[1], size.height - y)
        left, before_x = _start(x + stored.placed.skip[0], stored.divisor)
        top, before_y = _start(y + stored.placed.skip[1], stored.divisor)
        shape = width + before_x, height + before_y
        where = f"{self._path.name}: level {level}, tile ({column}, {row})"
        try:
            with self._file.borrow(where) as slide:
                region = slide.read_region((left, top), stored.number, shape)
                pixels = on_white(np.asarray(region.convert("RGBA")))
        except openslide.OpenSlideError as error:
            raise SlideError(f"{where} cannot be read ({error})") from error
        return np.ascontiguousarray(pixels[before_y:, before_x:])

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        with self._file.borrow(f"{self._path.name}: {name}") as slide:
            return on_white(np.asarray(slide.associated_images[name].convert("RGBA")))

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Reject new reads; close after the last running read."""
        self._file.close()


class _File:
    """OpenSlide handle, freed after `close` and the last running read.

    OpenSlide's own `close` frees the handle at once; a read in another thread would then
    crash the process.
    """

    def __init__(self, slide: openslide.OpenSlide) -> None:
        self.closed = False
        self._slide = slide
        self._reads = 0  # number of running reads
        self._lock = threading.Lock()  # released during reads, which run in parallel

    @contextmanager
    def borrow(self, target: str) -> Iterator[openslide.OpenSlide]:
        """Yield the open handle for a read; SlideError if closed.

        `target` names the tile or image in the message.
        """
        with self._lock:
            if self.closed:
                raise SlideError(f"{target} cannot be read: the slide was closed")
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


@dataclass(frozen=True)
class _StoredLevel:
    """Level with its number and downsample in OpenSlide."""

    placed: Placed
    number: int
    divisor: float


def _levels(slide: openslide.OpenSlide) -> tuple[list[_StoredLevel], tuple[str, ...]]:
    """Return levels with factors by format or size, and notes."""
    finest, levels, by_size = slide.dimensions, [], True
    for number, size in enumerate(slide.level_dimensions):
        divisor = slide.level_downsamples[number]
        mean = (finest[0] / size[0] + finest[1] / size[1]) / 2
        own = not math.isclose(divisor, mean, rel_tol=1e-12)
        factors = (divisor, divisor) if own else level_factors(finest, size)
        by_size = by_size and not own
        levels.append(_StoredLevel(Placed(Level(*size, factors, _TILE), (0, 0)), number, divisor))
    return levels, level_notes(slide.level_dimensions) if by_size else ()


def _dicom_levels(
    slide: openslide.OpenSlide, every: Sequence[Matrix]
) -> tuple[list[_StoredLevel], tuple[str, ...]]:
    """Return levels of a DICOM slide with positions, and notes."""
    series = slide.properties["dicom.SeriesInstanceUID"]
    matrices = {
        matrix.size: matrix for matrix in every if matrix.series == series and matrix.volume
    }
    if slide.dimensions not in matrices:
        raise SlideError("the header of the finest DICOM level cannot be read")
    levels, notes = [], []
    for number, size in enumerate(slide.level_dimensions):
        name = level_name(number, size)
        if size not in matrices:
            notes.append(f"{name} is not used: its header cannot be read")
            continue
        try:
            placed = place_level(matrices[slide.dimensions], matrices[size], _TILE)
        except ValueError as reason:
            notes.append(f"{name} is not used: {reason}")
            continue
        if placed.note:
            notes.append(f"{name}: {placed.note}")
        levels.append(_StoredLevel(placed, number, slide.level_downsamples[number]))
    return levels, tuple(notes)


def _start(pixel: int, divisor: float) -> tuple[int, int]:
    """Return a read's level-0 start, and pixels to skip.

    OpenSlide accepts only whole level-0 positions and blends two pixels at positions between
    them. A read therefore starts at the earlier pixel that is closest to a whole position.
    """
    skip = min(range(_BACK), key=lambda back: abs(_off_grid((pixel - back) * divisor)))
    return round((pixel - skip) * divisor), skip


def _off_grid(position: float) -> float:
    return round(position - round(position), 6)


def _largest(folder: Path, slides: Sequence[Matrix]) -> Path:
    """Return the file of the largest slide in a folder."""
    if not slides:
        raise SlideError(f"the folder {folder.name} contains no DICOM slide (*.dcm)")
    return max(slides, key=area).path


def _images(
    slide: openslide.OpenSlide, vendor: str, file: Path, slides: Sequence[Matrix]
) -> tuple[tuple[SlideImage, ...], int]:
    """Return the file's images, and the open one's number.

    For a TIFF of unknown kind, OpenSlide opens the first image.

    Raises
    ------
    SlideError
        If the first image is not the largest.
    """
    if slides:
        images = tuple(as_image(one) for one in slides)
        return images, next(n for n, one in enumerate(slides) if one.path == file)
    mpp = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
    first = SlideImage(file.name, slide.dimensions, None if mpp is None else float(mpp))
    if vendor != "generic-tiff":
        return (first,), 0
    listing = images_of_file(file)
    if listing is None:
        return (first,), 0
    main = listing.images[listing.main]
    if main.size != slide.dimensions:
        raise SlideError(
            f"OpenSlide reads the first image, {first.described(False)}, not the largest, "
            f"{main.described(False)}: save the largest in its own file, or as RGB"
        )
    return listing.images, listing.main
