"""Reader based on tiffslide, with direct decoding of tiles.

tiffslide parses the file. Its own `read_region` uses zarr's single I/O thread; this reader
instead makes one `pread` and one codec call per tile, without a lock, so several threads
decode in parallel.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tiffslide

from napari_wsimil.slides.geometry import (
    Level,
    MppSource,
    Resolution,
    SlideError,
    stated_resolution,
)
from napari_wsimil.slides.readers.base import PARSER_ERRORS
from napari_wsimil.slides.readers.color import JPEG_2000, ColorError, rgb_converter
from napari_wsimil.slides.readers.content_hash import content_digest
from napari_wsimil.slides.readers.images import quiet_parser, tiff_images
from napari_wsimil.slides.readers.levels import level_factors, level_notes, moves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from tifffile import TiffPage, TiffPageSeries

#: Maximum bytes of a decoded block; files with larger blocks are rejected.
MAX_BLOCK = 256 * 2**20
#: Errors about the parser's code, not the file, such as a value of another type or size.
_CODE_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError)


class TiffSlideReader:
    """Tiles of an RGB TIFF, parsed by tiffslide; see `Reader`."""

    def __init__(self, path: Path | str) -> None:
        self._path = path = Path(path)
        try:
            with quiet_parser():
                self._slide = tiffslide.TiffSlide(path)
        except PARSER_ERRORS as error:
            raise SlideError(f"not a TIFF slide ({_first_line(error)})") from error
        try:
            with quiet_parser():
                self._parse()
        except ColorError:
            self._slide.close()
            raise
        except PARSER_ERRORS as error:
            self._slide.close()
            raise SlideError(_first_line(error)) from error
        self._file: _File | None = _File(path)

    def _parse(self) -> None:
        tiff = self._slide.ts_tifffile
        stated = self._stated()
        self.vendor = str(stated.get("tiffslide.vendor") or "tiff")
        if "tiffslide.series-composition" in stated:
            raise SlideError("it has several scanned areas, which only OpenSlide reads")
        listing = tiff_images(tiff)
        self.images, self.image = listing.images, listing.main
        number = listing.series[listing.main]
        self._pages = [_page(level) for level in tiff.series[number].levels]
        self._to_rgb = [rgb_converter(page) for page in self._pages]
        for page in self._pages:
            _check(page, os.path.getsize(self._path))
        self.levels = tuple(_level(page, self._pages[0]) for page in self._pages)
        self.notes = level_notes([(level.width, level.height) for level in self.levels])
        first = stated.get("tiffslide.series-index")
        if number == first and not tiff.is_ome:
            self.resolution = _resolution(stated, self.vendor)
        else:
            source = MppSource.OME if tiff.is_ome else MppSource.DERIVED
            self.resolution = stated_resolution(*listing.sides[listing.main], source)
        slide_image = replace(self.images[self.image], mpp=self.resolution.mpp)
        self.images = tuple(
            slide_image if n == listing.main else one for n, one in enumerate(listing.images)
        )
        self.properties: Mapping[str, str] = {
            name: str(value) for name, value in stated.items() if value is not None
        }
        names = () if first is None else self._slide.associated_images
        self.associated = tuple(name for name in names if name != slide_image.name.lower())
        self.identity = content_digest(self._path)
        changes = {"color": any(self._to_rgb), "levels": any(map(self._is_moved, self.levels))}
        self.changes: Mapping[str, int] = {kind: 2 for kind, changed in changes.items() if changed}

    def _is_moved(self, level: Level) -> bool:
        finest = self.levels[0]
        return moves(level, (finest.width / level.width + finest.height / level.height) / 2)

    def _stated(self) -> Mapping[str, object]:
        """Return tiffslide's header, which describes only the first image.

        Reports a ColorError before any other error.
        """
        try:
            stated: Mapping[str, object] = self._slide.properties
        except PARSER_ERRORS as error:
            tiff = self._slide.ts_tifffile
            if isinstance(error, NotImplementedError) and tiff.is_ome:
                return {"tiff.ImageDescription": tiff.ome_metadata}  # describes all images
            rgb_converter(tiff.pages.first)
            raise
        return stated

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        page, size = self._pages[level], self.levels[level]
        columns, _ = size.tiles
        index = row * columns + column
        width = min(size.tile[0], size.width - column * size.tile[0])
        height = min(size.tile[1], size.height - row * size.tile[1])
        where = f"{self._path.name}: level {level}, tile ({column}, {row})"
        file = self._file
        if file is None:
            raise SlideError(f"{where} cannot be read: the slide was closed")
        try:
            count = page.databytecounts[index]
            if count == 0:
                return np.full((height, width, 3), 255, np.uint8)
            data = os.pread(file.descriptor, count, page.dataoffsets[index])
            if len(data) < count:
                raise SlideError(f"{where} is incomplete: the file is truncated")
            tile = page.decode(data, index, jpegtables=page.jpegtables)[0]
        except SlideError:
            raise
        except PARSER_ERRORS as error:
            raise SlideError(f"{where} cannot be decoded ({_first_line(error)})") from error
        if tile is None or tile.shape[1] < height or tile.shape[2] < width:
            raise SlideError(f"{where} is smaller than its header states")
        to_rgb = self._to_rgb[level]
        if to_rgb is None:
            return np.ascontiguousarray(tile[0, :height, :width, :3])
        return to_rgb(tile[0, :height, :width])

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        series = self._slide.associated_images.series_map[name]
        try:
            with quiet_parser():
                to_rgb = rgb_converter(_page(series))
                samples = series.asarray()
        except PARSER_ERRORS as error:
            raise SlideError(
                f"{self._path.name}: image {name!r} cannot be read ({_first_line(error)})"
            ) from error
        samples = samples if samples.ndim == 3 else samples[..., None]
        return np.ascontiguousarray(samples[..., :3]) if to_rgb is None else to_rgb(samples)

    @property
    def closed(self) -> bool:
        return self._file is None

    def close(self) -> None:
        """Reject new reads; close after the last running read."""
        self._file = None
        self._slide.close()


class _File:
    """Open file, closed with its last reference.

    The system must not reuse its descriptor while a thread still reads from it.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)


def _first_line(error: BaseException) -> str:
    """Return an error's first line; "it is damaged" for `_CODE_ERRORS`."""
    if isinstance(error, _CODE_ERRORS):
        return "it is damaged"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _page(level: TiffPageSeries) -> TiffPage:
    page = level.keyframe
    if page is None or len(level.pages) != 1:
        raise SlideError(f"{len(level.pages)} planes where one RGB plane is expected")
    if page.compression in JPEG_2000:
        page.subsampling = (1, 1)  # as in decoded blocks; tifffile decodes no others
    return page


def _check(page: TiffPage, file_size: int) -> None:
    """Reject pages that are truncated, not RGB, or too large."""
    if page.dtype != np.uint8 or page.axes != "YXS" or page.shape[-1] not in (3, 4):
        raise SlideError(f"pixels are {page.dtype} with axes {page.axes}, a slide has 8-bit RGB")
    block = int(np.prod(page.chunks, dtype=np.int64))
    if min(page.shape) < 1 or block < 1:
        raise SlideError(f"a level of {page.shape[1]} × {page.shape[0]} px has no pixels")
    if block > MAX_BLOCK:
        raise SlideError(
            f"stored in blocks of {page.chunks[1]} × {page.chunks[0]} px, too large to decode: "
            "convert it to a tiled pyramid"
        )
    across, down = -(-page.shape[1] // page.chunks[1]), -(-page.shape[0] // page.chunks[0])
    if not len(page.dataoffsets) == len(page.databytecounts) == across * down:
        raise SlideError(
            f"{len(page.dataoffsets)} blocks are stored where {across * down} are expected"
        )
    ends = np.asarray(page.dataoffsets, float) + np.asarray(page.databytecounts, float)
    if ends.max() > file_size:
        raise SlideError(
            f"the file is truncated: it has {file_size} bytes, its tiles end at {ends.max():.0f}"
        )
    if max(page.databytecounts) > MAX_BLOCK:
        raise SlideError(f"a block of {max(page.databytecounts)} bytes is not plausible")


def _level(page: TiffPage, finest: TiffPage) -> Level:
    height, width = page.shape[:2]
    factors = level_factors((finest.shape[1], finest.shape[0]), (width, height))
    return Level(width, height, factors, (page.chunks[1], page.chunks[0]))


def _resolution(stated: Mapping[str, object], vendor: str) -> Resolution:
    x, y = (_number(stated.get(f"tiffslide.mpp-{axis}")) for axis in "xy")
    derived = vendor in ("tiff", "generic-tiff")  # from the TIFF's resolution tags
    return stated_resolution(x, y, MppSource.DERIVED if derived else MppSource.HEADER)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float | str) else None
