"""Pixel spacing and origin of DICOM levels.

OpenSlide states them only for level 0. Only the tags below are read; none names a patient.
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
    """Pixel matrix of one DICOM image.

    Attributes
    ----------
    path
        Its file.
    series
        Identifier of its slide (SeriesInstanceUID).
    volume
        Whether it is a level, not a label, overview or thumbnail.
    size
        (width, height) in pixels.
    spacing
        Size of a pixel in mm along x and y; None if not stated.
    corner
        (x, y) of its first pixel in mm on the glass; None if not stated.
    axes
        (2, 2), directions of a row and of a column on the glass; None if not stated.
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
    """Level with its position in the stored matrix.

    Attributes
    ----------
    level
        Geometry without padding beyond the slide.
    skip
        Number of columns and rows of the stored matrix before the level.
    note
        Sentence on a correction; empty without one.
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
        return None  # OpenSlide ignores it too, or rejects the slide with a reason


def slides_of(matrices: Iterable[Matrix]) -> list[Matrix]:
    """Return the finest level of every series."""
    finest: dict[str, Matrix] = {}
    for matrix in matrices:
        previous = finest.get(matrix.series)
        if matrix.volume and (previous is None or area(matrix) > area(previous)):
            finest[matrix.series] = matrix
    return list(finest.values())


def area(matrix: Matrix) -> int:
    """Return the number of pixels of a matrix."""
    return matrix.size[0] * matrix.size[1]


def as_image(matrix: Matrix) -> SlideImage:
    """Return a matrix as slide image, named after its file."""
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

    Uses the pixel spacing, else the size of the imaged volume; None if neither is valid.
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
        If its position is unknown or ambiguous; the message states the reason.
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
        raise ValueError("its origin is outside the slide")
    if any(offset):
        note += f"{'; ' if note else ''}it starts {offset[0]:.0f}, {offset[1]:.0f} px from level 0"
    level = Level(sides[0], sides[1], factors, tile, (origin[0], origin[1]))
    return Placed(level, (skip[0], skip[1]), note)


def _factors(finest: Matrix, matrix: Matrix) -> tuple[tuple[float, float], str]:
    """Return the factors along x and y, and a note.

    A matrix may be padded beyond the slide, so pixel spacing has priority over size. If the
    spacing makes the matrix too small for the slide and one factor explains the size, the
    spacing is wrong.
    """
    by_size = level_factors(finest.size, matrix.size)
    isotropic = by_size[0] == by_size[1]
    if finest.spacing is None or matrix.spacing is None:
        if isotropic:
            return by_size, ""
        raise ValueError(f"it states no pixel spacing, and its size {_factor_text(by_size)}")
    (x0, y0), (x, y) = finest.spacing, matrix.spacing
    by_spacing = _round_ratio(x / x0), _round_ratio(y / y0)
    sides = [whole / factor for whole, factor in zip(finest.size, by_spacing, strict=True)]
    excess = [side - exact for side, exact in zip(matrix.size, sides, strict=True)]
    if max(map(abs, excess)) <= 1:
        whole = by_spacing[0] == by_spacing[1] == round(by_spacing[0])
        return by_spacing if whole else by_size, ""
    square = abs(by_spacing[0] / by_spacing[1] - 1) * max(matrix.size) <= 1
    width, height = (math.ceil(exact - 1e-6) for exact in sides)
    if square and min(excess) >= -1:
        return (
            by_spacing,
            f"by its pixel spacing {width} × {height} px are slide, the rest is padding",
        )
    spacing = (
        f"its pixel spacing makes it {by_spacing[0]:.6g} × {by_spacing[1]:.6g} times as coarse"
    )
    if isotropic:
        return by_size, f"{spacing}, its size {by_size[0]:.6g} times; the size is used"
    raise ValueError(f"{spacing}, and its size {_factor_text(by_size)}")


def _factor_text(factors: tuple[float, float]) -> str:
    return f"makes it {factors[0]:.4g} × {factors[1]:.4g} times as coarse"


def _round_ratio(factor: float) -> float:
    """Round a ratio of spacings if nearly whole."""
    nearest = float(round(factor))
    return nearest if abs(factor - nearest) < 1e-5 * factor else factor


def _offset(finest: Matrix, matrix: Matrix, factors: tuple[float, float]) -> tuple[float, float]:
    """Return a matrix's offset (x, y) in level-0 pixels.

    An offset of up to half a pixel counts as zero: some files state the corner of the first
    pixel, others its center.
    """
    if finest.corner is None or matrix.corner is None or finest.spacing is None:
        return 0.0, 0.0
    shift = matrix.corner - finest.corner
    if finest.axes is None or matrix.axes is None:
        if np.abs(shift).max() <= max(factors) / 2 * max(finest.spacing):
            return 0.0, 0.0
        raise ValueError("its origin differs from level 0, and it states no orientation")
    if np.abs(finest.axes - matrix.axes).max() > 1e-3:
        raise ValueError("it is rotated against level 0")
    x, y = (finest.axes @ shift) / np.array(finest.spacing)
    if abs(x) <= factors[0] / 2 and abs(y) <= factors[1] / 2:
        return 0.0, 0.0
    return float(x), float(y)
