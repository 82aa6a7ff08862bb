"""Stated: what a file of features says of itself, in its own unit, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from napari_wsimil.slides.reading import UNKNOWN, Reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

#: Endings of what may hold features.
SUFFIXES = (".h5", ".hdf5", ".pt", ".pth", ".zarr")


class Tool(StrEnum):
    """Which program's layout a file has."""

    OWN = "napari-wsimil"
    TRIDENT = "TRIDENT"
    STAMP = "STAMP"
    CLAM = "CLAM"
    LAZYSLIDE = "LazySlide"
    SLIDEFLOW = "Slideflow"
    NONE = "features alone"


class Unit(StrEnum):
    """In what a file gives the places of its patches."""

    PIXELS = "level-0 px"
    MICRONS = "µm"
    NONE = "no places"


@dataclass(frozen=True, eq=False)
class Stated:
    """What a file of features says; None and empty where it is silent.

    Attributes
    ----------
    path, tool
        The file, and whose layout it has.
    shape
        (N, D) of its features.
    load
        Reads them: (N, D) float32.
    corners
        (N, 2) float64 of (x, y), in `unit`; of the patches' centers if `centered`.
    unit
        Of `corners` and `step`.
    patch_size, patch_um
        Side of a patch in level-0 pixels, or in µm.
    pixels
        Side of a patch as the encoder saw it.
    step
        Extent less overlap, as the file states them.
    mpp
        µm per level-0 pixel of the slide.
    slide_size, bounds
        (width, height) of the slide, and (x, y, width, height) of its scanned part, in
        level-0 pixels.
    encoder, verified
        Its name, and whether a hash of its weights is in it.
    slide, synthetic
        Fingerprint of the slide, and whether it is a phantom.
    reading
        Which version of our readers gave the pixels that were encoded.
    notes
        What was taken for granted in reading it, for people.
    """

    path: Path
    tool: Tool
    shape: tuple[int, int]
    load: Callable[[], NDArray[np.float32]]
    corners: NDArray[np.float64] | None = None
    unit: Unit = Unit.NONE
    centered: bool = False
    patch_size: float | None = None
    patch_um: float | None = None
    pixels: int | None = None
    step: float | None = None
    mpp: float | None = None
    slide_size: tuple[int, int] | None = None
    bounds: tuple[int, int, int, int] | None = None
    encoder: str = ""
    verified: bool = False
    slide: str = ""
    synthetic: bool = False
    reading: Reading = UNKNOWN
    notes: tuple[str, ...] = ()


#: Readings of places that can be confirmed, see `bags.place_readings`.
READINGS = {
    "stated": "as the file states them",
    "exchanged": "with x and y exchanged",
    "centers": "as centers of patches",
    "corners": "as corners of patches",
    "left": "one patch to the left",
    "right": "one patch to the right",
    "up": "one patch up",
    "down": "one patch down",
}


def checked_reading(text: str) -> str:
    """Return the name of a reading, or nothing; ValueError if there is no such reading."""
    if text and text not in READINGS:
        raise ValueError(f"{text!r} is none of {', '.join(READINGS)}")
    return text


#: What can be confirmed in a text, and how it is read.
_TYPES: dict[str, Callable[[str], object]] = {
    "patch_size": int,
    "stride": int,
    "pixels": int,
    "mpp": float,
    "encoder": str,
    "table": str,
    "reading": checked_reading,
}


@dataclass(frozen=True)
class Confirmed:
    """What a person says of a file that the file does not; it goes before what the file says.

    Attributes
    ----------
    patch_size, stride
        In level-0 pixels.
    pixels
        Side of a patch as the encoder saw it.
    mpp
        µm per level-0 pixel of the slide.
    encoder
        Name of the encoder; nothing verifies it.
    table
        Which of several tables of features in one file is meant.
    patches
        CLAM's file of patches of the same slide.
    reading
        How its places are meant, a name in `READINGS`; empty where nobody confirmed it.
    """

    patch_size: int | None = None
    stride: int | None = None
    pixels: int | None = None
    mpp: float | None = None
    encoder: str = ""
    table: str = ""
    patches: Path | None = None
    reading: str = ""

    @property
    def text(self) -> str:
        """Return it as a text that `parse` reads, for tables; what is a path is left out."""
        said = ((name, getattr(self, name)) for name in _TYPES)
        return "; ".join(f"{name}={value}" for name, value in said if value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a text such as "patch_size=512; mpp=0.25" says.

        Raises
        ------
        ValueError
            If it names another fact, or gives what is no value of one.
        """
        found: dict[str, Any] = {}
        for part in filter(None, (one.strip() for one in text.split(";"))):
            name, _, value = (one.strip() for one in part.partition("="))
            try:
                found[name] = _TYPES[name](value)
            except (KeyError, ValueError) as error:
                known = ", ".join(_TYPES)
                raise ValueError(f"{part!r} confirms nothing: NAME=VALUE of {known}") from error
        return cls(**found)
