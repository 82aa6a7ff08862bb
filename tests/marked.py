"""Slides with one mark and levels cut to whole pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

GLASS, PINK = 245, (200, 60, 150)
Cut = "Callable[[float], int]"


@dataclass(frozen=True)
class Marked:
    """A slide and its mark.

    Attributes
    ----------
    size
        (width, height) in level-0 pixels.
    mark
        Left, top, right and lower border of the mark in level-0 pixels.
    factors
        Level-0 pixels per pixel of each coarser level, the same along both axes.
    cuts
        Per coarser level, how its width and its height were made whole.
    """

    size: tuple[int, int]
    mark: tuple[int, int, int, int]
    factors: tuple[float, ...]
    cuts: tuple[tuple[Callable[[float], int], Callable[[float], int]], ...]

    @property
    def middle(self) -> NDArray[np.float64]:
        """The (x, y) of the middle of the mark."""
        left, top, right, bottom = self.mark
        return np.array([left + right, top + bottom]) / 2

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return (width, height) of every level."""
        pairs = zip(self.factors, self.cuts, strict=True)
        return [self.size, *((x(self.size[0] / f), y(self.size[1] / f)) for f, (x, y) in pairs)]

    def pixels(self, factor: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a level, each pixel averaged by area."""
        left, top, right, bottom = self.mark
        x, y = _covered(size[0], factor, left, right), _covered(size[1], factor, top, bottom)
        share = (y[:, None] * x)[..., None]
        return np.round(GLASS + share * (np.array(PINK) - GLASS)).astype(np.uint8)

    def levels(self) -> list[NDArray[np.uint8]]:
        """Return the pixels of every level."""
        return [
            self.pixels(factor, size)
            for factor, size in zip((1.0, *self.factors), self.sizes, strict=True)
        ]


def write_svs(path: Path, levels: Sequence[NDArray[np.uint8]], mpp: float | None = None) -> Path:
    """Write levels as a lossless Aperio slide with a thumbnail."""
    height, width = levels[0].shape[:2]
    header = f"Aperio Image Library v1\r\n{width}x{height} [0,0 {width}x{height}] (64x64)"
    header += f"|AppMag = 20|MPP = {mpp}" if mpp else "|AppMag = 20"
    shared = {"compression": "zlib", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(levels[0], tile=(64, 64), description=header, **shared)
        tiff.write(levels[-1], **shared)
        for level in levels[1:]:
            tiff.write(level, tile=(64, 64), description=header, **shared)
    return path


def elongated() -> Marked:
    """700 × 10,000 px with levels of 175, 43 and 10 columns."""
    return Marked(
        (700, 10_000),
        (192, 8_448, 576, 9_216),
        (4.0, 16.0, 64.0),
        ((math.floor, math.floor),) * 3,
    )


def _covered(side: int, factor: float, low: int, high: int) -> NDArray[np.float64]:
    """Return the share of each pixel between two level-0 places."""
    start = np.arange(side) * factor
    inside = np.minimum(start + factor, high) - np.maximum(start, low)
    return np.clip(inside / factor, 0, 1)


def middle(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the centroid (x, y) of the stain in pixels."""
    stain = np.maximum(0, picture[..., 0].astype(float) - picture[..., 1])
    assert stain.any(), "nothing is there"
    rows, columns = stain.sum(axis=1), stain.sum(axis=0)
    places = (np.arange(len(line)) + 0.5 for line in (columns, rows))
    return np.array([x @ y for x, y in zip(places, (columns, rows), strict=True)]) / stain.sum()


def middle_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (x, y) of the middle of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert len(rows), "nothing is there"
    return np.array([columns[0] + columns[-1] + 1, rows[0] + rows[-1] + 1]) / 2
