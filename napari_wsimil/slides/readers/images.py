"""Images of a TIFF, pixel sizes, and the main image."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile

from napari_wsimil.slides.geometry import SlideImage
from napari_wsimil.slides.readers.base import PARSER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tifffile import TiffPageSeries

#: Names of images of the whole glass or of its label.
_AUXILIARY = re.compile(r"\b(macro|label|overview|thumbnail|map)\b", re.IGNORECASE)
#: Kinds of TIFF that declare the role of each image; other kinds list equal images.
_SCANNERS = {"svs", "ndpi", "philips", "scn", "bif", "qpi", "sis", "indica", "avs"}
_MICRONS = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
#: µm per unit of a TIFF's resolution: inch and centimeter.
_UNITS = {2: 25_400.0, 3: 10_000.0}

Sides = tuple[float | None, float | None]


@dataclass(frozen=True)
class TiffImages:
    """Images of a TIFF that may be its slide.

    Attributes
    ----------
    series
        Number of each image among tifffile's series.
    images
        Names, sizes and µm per pixel.
    sides
        µm per pixel along x and y as stated.
    main
        Index of the slide: the largest image with 8-bit RGB pixels. An image named macro,
        label, overview or thumbnail is chosen only if there is no other.
    """

    series: tuple[int, ...]
    images: tuple[SlideImage, ...]
    sides: tuple[Sides, ...]
    main: int


def tiff_images(tiff: TiffFile) -> TiffImages:
    """Return the images of an open TIFF in file order."""
    numbers = [
        number
        for number, series in enumerate(tiff.series)
        if number == 0 or series.kind not in _SCANNERS or not _AUXILIARY.search(series.name)
    ]
    ome = _ome_sides(tiff) if tiff.ome_metadata else None
    images, sides = [], []
    for number in numbers:
        series = tiff.series[number]
        pair = _tag_sides(series) if ome is None else ome[number]
        square = None not in pair and abs((pair[0] or 0) - (pair[1] or 0)) <= 0.01 * (pair[0] or 0)
        name = series.name or f"image {number + 1}"
        images.append(SlideImage(name, _size(series), pair[0] if square else None))
        sides.append(pair)
    main = max(range(len(numbers)), key=lambda one: _rank(tiff.series[numbers[one]]))
    return TiffImages(tuple(numbers), tuple(images), tuple(sides), main)


def images_of_file(path: Path | str) -> TiffImages | None:
    """Return the images of a TIFF file; None if unreadable."""
    try:
        with quiet_parser(), TiffFile(path) as tiff:
            return tiff_images(tiff)
    except PARSER_ERRORS:
        return None


_parsing = threading.Lock()


@contextmanager
def quiet_parser() -> Iterator[None]:
    """Silence tifffile's log; `SlideError` reports problems of a file."""
    log = logging.getLogger("tifffile")
    with _parsing:
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = False


def _rank(series: TiffPageSeries) -> tuple[bool, bool, int]:
    width, height = _size(series)
    rgb = series.dtype == np.uint8 and series.axes == "YXS" and series.shape[-1] in (3, 4)
    return not _AUXILIARY.search(series.name), rgb, width * height


def _size(series: TiffPageSeries) -> tuple[int, int]:
    """Return (width, height) of a series with any axes."""
    width, height = (int(series.shape[series.axes.index(axis)]) for axis in "XY")
    return width, height


def _tag_sides(series: TiffPageSeries) -> Sides:
    """Return µm per pixel from the TIFF's resolution tags."""
    if series.keyframe is None:
        return None, None
    tags = series.keyframe.tags
    unit = _UNITS.get(int(tags.valueof(296, default=2)))
    if unit is None or 282 not in tags or 283 not in tags:
        return None, None
    x, y = (_ratio(tags.valueof(code)) for code in (282, 283))
    return (unit / x, unit / y) if x and y else (None, None)


def _ratio(value: Sequence[int]) -> float:
    numerator, denominator = value
    return numerator / denominator if denominator else 0.0


def _ome_sides(tiff: TiffFile) -> list[Sides]:
    """Return µm per pixel of every series from OME-XML.

    If OME-XML and file differ in the number of images, images are matched by size.
    """
    pixels = list(ElementTree.fromstring(tiff.ome_metadata or "").iterfind(".//{*}Pixels"))
    if len(pixels) == len(tiff.series):
        return [_ome_pair(one.attrib) for one in pixels]
    return [
        _common([_ome_pair(one.attrib) for one in pixels if _ome_size(one.attrib) == _size(series)])
        for series in tiff.series
    ]


def _common(pairs: list[Sides]) -> Sides:
    """Return the pixel size that all images share, else None."""
    return pairs[0] if len(set(pairs)) == 1 else (None, None)


def _ome_size(attributes: Mapping[str, str]) -> tuple[int, int]:
    return int(attributes.get("SizeX", 0)), int(attributes.get("SizeY", 0))


def _ome_pair(attributes: Mapping[str, str]) -> Sides:
    x, y = (_ome_length(attributes, axis) for axis in "XY")
    return x, y


def _ome_length(attributes: Mapping[str, str], axis: str) -> float | None:
    size = attributes.get(f"PhysicalSize{axis}")
    factor = _MICRONS.get(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or factor is None else float(size) * factor
