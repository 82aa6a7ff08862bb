"""Geometry of a slide: levels, regions and pixel size.

Positions are (x, y) in level-0 pixels unless stated otherwise; array shapes are
(rows, columns). A downsample is a real number and is never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class SlideError(OSError):
    """A slide cannot be opened or read.

    The message names the file and the remedy.
    """


class Region(NamedTuple):
    """Rectangle: x and y of its top-left corner, and size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    width, height
        Size in pixels of this level.
    factors
        Level-0 pixels per pixel of this level along x and y, real numbers.
    tile
        (width, height) of its tiles, stored or synthesized.
    origin
        (x, y) of its top-left corner in level-0 pixels, real numbers.
    """

    width: int
    height: int
    factors: tuple[float, float]
    tile: tuple[int, int] = (256, 256)
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def downsample(self) -> float:
        """Return the mean factor; convert positions with `factors`."""
        return (self.factors[0] + self.factors[1]) / 2

    @property
    def tiles(self) -> tuple[int, int]:
        """Return the number of (columns, rows) of tiles."""
        return -(-self.width // self.tile[0]), -(-self.height // self.tile[1])

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Convert a level-0 position to pixels of this level."""
        return (x - self.origin[0]) / self.factors[0], (y - self.origin[1]) / self.factors[1]


@dataclass(frozen=True)
class SlideImage:
    """Image that may be the slide of its file.

    Attributes
    ----------
    name
        Name of the image in its file, or of its file in a folder; may identify a patient.
    size
        (width, height) in pixels of its finest level.
    mpp
        µm per pixel stated by the file; None if not stated.
    """

    name: str
    size: tuple[int, int]
    mpp: float | None

    def described(self, names: bool) -> str:
        """Return the size, with the name if requested."""
        size = f"{self.size[0]} × {self.size[1]} px"
        return f"{self.name} ({size})" if names else size


class MppSource(StrEnum):
    """Source of a pixel size."""

    HEADER = "header"
    OME = "OME-XML"
    DERIVED = "derived"
    USER = "user"
    UNKNOWN = "unknown"


#: Range of pixel sizes in µm; others count as unit errors, hence as unknown.
PLAUSIBLE_MPP = (0.05, 20.0)


@dataclass(frozen=True)
class Resolution:
    """Size of a level-0 pixel, with its source.

    Attributes
    ----------
    mpp
        µm per pixel; None if unknown.
    source
        Source of the number.
    note
        Reason why a stated size was rejected, to be displayed; may be empty.
    """

    mpp: float | None
    source: MppSource
    note: str = ""

    @property
    def known(self) -> bool:
        return self.mpp is not None


def stated_resolution(mpp_x: float | None, mpp_y: float | None, source: MppSource) -> Resolution:
    """Validate the pixel size that a file states.

    A missing, implausible or non-square size gives an unknown resolution with a note.

    Parameters
    ----------
    mpp_x, mpp_y
        µm per level-0 pixel along x and y; None if not stated.
    source
        Source of the two numbers.
    """
    if mpp_x is None or mpp_y is None:
        return Resolution(None, MppSource.UNKNOWN, "the file states no pixel size")
    low, high = PLAUSIBLE_MPP
    if not (low <= mpp_x <= high and low <= mpp_y <= high):
        note = f"the file states {mpp_x:g} × {mpp_y:g} µm per pixel, outside {low}–{high} µm"
        return Resolution(None, MppSource.UNKNOWN, note)
    if abs(mpp_x - mpp_y) > 0.01 * max(mpp_x, mpp_y):
        note = f"the file states pixels that are not square: {mpp_x:g} × {mpp_y:g} µm"
        return Resolution(None, MppSource.UNKNOWN, note)
    return Resolution((mpp_x + mpp_y) / 2, source)
