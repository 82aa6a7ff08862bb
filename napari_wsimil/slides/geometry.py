"""Places on a slide: levels, regions and the size of a pixel.

Positions are (x, y) in level-0 pixels unless a name says otherwise; array shapes are
(rows, columns). A downsample is a real number and is never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class SlideError(OSError):
    """A slide cannot be opened or read; the message names the file and what to do."""


class Region(NamedTuple):
    """A rectangle; x and y of its top-left corner, then its size."""

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
        (width, height) of the tiles the level is stored or synthesized in.
    origin
        (x, y) of the corner of its first pixel in level-0 pixels, real numbers.
    """

    width: int
    height: int
    factors: tuple[float, float]
    tile: tuple[int, int] = (256, 256)
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def downsample(self) -> float:
        """Return the mean factor; use `factors` for places."""
        return (self.factors[0] + self.factors[1]) / 2

    @property
    def tiles(self) -> tuple[int, int]:
        """Return how many (columns, rows) of tiles cover the level."""
        return -(-self.width // self.tile[0]), -(-self.height // self.tile[1])

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return a level-0 place in pixels of this level."""
        return (x - self.origin[0]) / self.factors[0], (y - self.origin[1]) / self.factors[1]


@dataclass(frozen=True)
class SlideImage:
    """A candidate slide of a file or folder.

    Attributes
    ----------
    name
        The image's name in the file, or a folder's file name; may identify a patient.
    size
        (width, height) in pixels of its finest level.
    mpp
        µm per pixel as stated for it; None if the file is silent.
    """

    name: str
    size: tuple[int, int]
    mpp: float | None

    def described(self, names: bool) -> str:
        """Return the size, with the name if requested."""
        size = f"{self.size[0]} × {self.size[1]} px"
        return f"{self.name} ({size})" if names else size


class MppSource(StrEnum):
    """Where a pixel size came from."""

    HEADER = "header"
    OME = "OME-XML"
    DERIVED = "derived"
    USER = "user"
    UNKNOWN = "unknown"


#: Pixel sizes outside this range (µm) are taken for a unit error, hence unknown.
PLAUSIBLE_MPP = (0.05, 20.0)


@dataclass(frozen=True)
class Resolution:
    """Size of a level-0 pixel in µm, and where it came from; `mpp` is None if unknown.

    `note` says why a stated size was not believed, for people to read.
    """

    mpp: float | None
    source: MppSource
    note: str = ""

    @property
    def known(self) -> bool:
        return self.mpp is not None


def stated_resolution(mpp_x: float | None, mpp_y: float | None, source: MppSource) -> Resolution:
    """Return the resolution a file states, or unknown with the reason it is not believed.

    Parameters
    ----------
    mpp_x, mpp_y
        µm per level-0 pixel along x and y; None where the file is silent.
    source
        Where the two numbers were found.
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
