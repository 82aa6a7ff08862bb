"""DICOM: pixel spacing and origin of every level.

OpenSlide states them for level 0 alone.

Only the tags below are read, none that names a patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.slides.geometry import Level, SlideImage
from napari_wsimil.slides.readers.base import PARSER_ERRORS
from napari_wsimil.slides.readers.levels import Size, level_factors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from pydicom import Dataset

_TAGS = [
    "SeriesInstanceUID",
    "ImageType",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixOriginSequence",
    "ImageOrientationSlide",
    "SharedFunctionalGroupsSequence",
    "ImagedVolumeWidth",
    "ImagedVolumeHeight",
]
_MAGIC = slice(128, 132)


@dataclass(frozen=True)
class Matrix:
    """The pixel matrix of one image of a slide.

    Attributes
    ----------
    path
        Its file.
    series
        Identifies the slide it is of.
    volume
        Whether it is a level, not a label, overview or thumbnail.
    size
        (width, height) in pixels.
    spacing
        Size of a pixel in mm along x and y; None if the file is silent.
    corner
        (x, y) of its first pixel in mm on the glass; None if the file is silent.
    axes
        (2, 2), the directions of a row and of a column on the glass.
    """

    path: Path
    series: str
    volume: bool
    size: Size
    spacing: tuple[float, float] | None
    corner: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None


@dataclass(frozen=True)
class Placed:
    """A level in its place.

    Attributes
    ----------
    level
        Without padding beyond the slide.
    skip
        How many columns and rows of the stored matrix come before it.
    note
        A sentence on a correction; empty if there was none.
    """

    level: Level
    skip: tuple[int, int]
    note: str = ""


def read_matrices(folder: Path | str) -> Iterator[Matrix]:
    """Yield the matrix of every DICOM file in a folder."""
    folder = Path(folder)
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(_MAGIC.stop)[_MAGIC] != b"DICM":
                continue
        matrix = read_matrix(path)
        if matrix is not None:
            yield matrix


def read_matrix(path: Path | str) -> Matrix | None:
    """Return the matrix of a DICOM file; None if unreadable."""
    path = Path(path)
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        return _matrix(path, header)
    except (pydicom.errors.InvalidDicomError, *PARSER_ERRORS):
        return None  # OpenSlide passes over it too, or refuses the slide and says why


def slides_of(matrices: Iterable[Matrix]) -> list[Matrix]:
    """Return the finest level of every series."""
    finest: dict[str, Matrix] = {}
    for matrix in matrices:
        before = finest.get(matrix.series)
        if matrix.volume and (before is None or area(matrix) > area(before)):
            finest[matrix.series] = matrix
    return list(finest.values())


def area(matrix: Matrix) -> int:
    """Return how many pixels a matrix has."""
    return matrix.size[0] * matrix.size[1]


def as_image(matrix: Matrix) -> SlideImage:
    """Return a slide of a folder, called as its file."""
    x, y = matrix.spacing or (0.0, 0.0)
    square = x > 0 and abs(x - y) <= 0.01 * x
    return SlideImage(matrix.path.name, matrix.size, 1000 * x if square else None)


def _matrix(path: Path, header: Dataset) -> Matrix:
    size = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    origin, axes = _item(header, "TotalPixelMatrixOriginSequence"), None
    corner = None
    if origin is not None:
        names = (f"{axis}OffsetInSlideCoordinateSystem" for axis in "XY")
        corner = np.array([float(origin[name].value) for name in names])
    if "ImageOrientationSlide" in header:
        axes = np.array(header.ImageOrientationSlide, float).reshape(2, 3)[:, :2]
    return Matrix(
        path=path,
        series=str(header.SeriesInstanceUID),
        volume="VOLUME" in header.ImageType,
        size=size,
        spacing=_spacing(header, size),
        corner=corner,
        axes=axes,
    )


def _spacing(header: Dataset, size: Size) -> tuple[float, float] | None:
    """Return mm per pixel along x and y.

    From the pixel spacing, else from the size of the imaged volume.
    """
    groups = _item(header, "SharedFunctionalGroupsSequence")
    measures = None if groups is None else _item(groups, "PixelMeasuresSequence")
    spacing: tuple[float, float] | None = None
    if measures is not None and measures.get("PixelSpacing"):
        down, across = (float(value) for value in measures.PixelSpacing)
        spacing = across, down
    elif header.get("ImagedVolumeWidth") and header.get("ImagedVolumeHeight"):
        width, height = float(header.ImagedVolumeWidth), float(header.ImagedVolumeHeight)
        spacing = width / size[0], height / size[1]
    valid = spacing is not None and all(0 < side < math.inf for side in spacing)
    return spacing if valid else None


def _item(header: Dataset, name: str) -> Any:
    """Return the first item of a sequence, or None."""
    sequence = header.get(name)
    return sequence[0] if sequence else None


def place_level(finest: Matrix, matrix: Matrix, tile: tuple[int, int]) -> Placed:
    """Place a level by its pixel spacing and origin.

    Raises
    ------
    ValueError
        If its place cannot be told; says why.
    """
    factors, note = _factors(finest, matrix)
    offset = _offset(finest, matrix, factors)
    skip, origin, sides = [], [], []
    for whole, side, factor, start in zip(finest.size, matrix.size, factors, offset, strict=True):
        before = max(0, math.floor(-start / factor + 1e-6))
        first = start + before * factor
        skip.append(before)
        origin.append(first if abs(first) > 1e-6 * factor else 0.0)
        sides.append(min(side - before, math.ceil((whole - first) / factor - 1e-6)))
    if min(sides) < 1:
        raise ValueError("its origin lies beside the slide")
    if any(offset):
        note += f"{'; ' if note else ''}it begins {offset[0]:.0f}, {offset[1]:.0f} px from level 0"
    level = Level(sides[0], sides[1], factors, tile, (origin[0], origin[1]))
    return Placed(level, (skip[0], skip[1]), note)


def _factors(finest: Matrix, matrix: Matrix) -> tuple[tuple[float, float], str]:
    """Return the factors along x and y, and a note.

    A matrix may be padded beyond the slide, so its pixel spacing counts before its size; a
    spacing that leaves a matrix too small for the slide is wrong where one factor explains
    the size.
    """
    by_size = level_factors(finest.size, matrix.size)
    one = by_size[0] == by_size[1]
    if finest.spacing is None or matrix.spacing is None:
        if one:
            return by_size, ""
        raise ValueError(f"it states no pixel spacing, and its size {_differing(by_size)}")
    (x0, y0), (x, y) = finest.spacing, matrix.spacing
    by_spacing = _whole(x / x0), _whole(y / y0)
    sides = [whole / factor for whole, factor in zip(finest.size, by_spacing, strict=True)]
    off = [side - exact for side, exact in zip(matrix.size, sides, strict=True)]
    if max(map(abs, off)) <= 1:
        whole = by_spacing[0] == by_spacing[1] == round(by_spacing[0])
        return by_spacing if whole else by_size, ""
    square = abs(by_spacing[0] / by_spacing[1] - 1) * max(matrix.size) <= 1
    width, height = (math.ceil(exact - 1e-6) for exact in sides)
    if square and min(off) >= -1:
        return by_spacing, f"by its pixel spacing {width} × {height} px are slide, the rest padding"
    spacing = (
        f"its pixel spacing makes it {by_spacing[0]:.6g} × {by_spacing[1]:.6g} times as coarse"
    )
    if one:
        return by_size, f"{spacing}, its size {by_size[0]:.6g} times, which is taken"
    raise ValueError(f"{spacing}, and its size {_differing(by_size)}")


def _differing(factors: tuple[float, float]) -> str:
    return f"makes it {factors[0]:.4g} × {factors[1]:.4g} times as coarse"


def _whole(factor: float) -> float:
    """Round a ratio of two spacings that is nearly whole."""
    nearest = float(round(factor))
    return nearest if abs(factor - nearest) < 1e-5 * factor else factor


def _offset(finest: Matrix, matrix: Matrix, factors: tuple[float, float]) -> tuple[float, float]:
    """Return the level-0 (x, y) of a matrix's corner.

    Up to half a pixel is none: some files state the corner of the first pixel, some its
    middle.
    """
    if finest.corner is None or matrix.corner is None or finest.spacing is None:
        return 0.0, 0.0
    away = matrix.corner - finest.corner
    if finest.axes is None or matrix.axes is None:
        if np.abs(away).max() <= max(factors) / 2 * max(finest.spacing):
            return 0.0, 0.0
        raise ValueError("it states another origin than level 0, and no orientation")
    if np.abs(finest.axes - matrix.axes).max() > 1e-3:
        raise ValueError("it is turned against level 0")
    x, y = (finest.axes @ away) / np.array(finest.spacing)
    if abs(x) <= factors[0] / 2 and abs(y) <= factors[1] / 2:
        return 0.0, 0.0
    return float(x), float(y)
