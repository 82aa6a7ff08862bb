"""Common description of feature files of all tools."""

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

#: File name suffixes of feature files.
SUFFIXES = (".h5", ".hdf5", ".pt", ".pth", ".zarr")


class Tool(StrEnum):
    """Tool that wrote a feature file."""

    OWN = "napari-wsimil"
    TRIDENT = "TRIDENT"
    STAMP = "STAMP"
    CLAM = "CLAM"
    LAZYSLIDE = "LazySlide"
    SLIDEFLOW = "Slideflow"
    NONE = "features alone"


class Unit(StrEnum):
    """Unit of patch coordinates in a file."""

    PIXELS = "level-0 px"
    MICRONS = "µm"
    NONE = "no places"


@dataclass(frozen=True, eq=False)
class Stated:
    """Contents of a feature file, as stated.

    Fields are None or empty if the file does not state them.

    Nothing is converted or guessed here: coordinates stay in the file's unit. `locate`
    converts them to level-0 pixels, with the user's overrides. For example, a STAMP file
    gives `corners` in µm and `patch_um`, but no `patch_size`, which follows from the
    slide's µm per pixel.

    Attributes
    ----------
    path, tool
        The file, and the tool of its layout.
    shape
        (N, D) of the features.
    load
        Reads the features: (N, D) float32.
    corners
        (N, 2) float64 of (x, y), in `unit`; patch centers if `centered`.
    unit
        Unit of `corners` and `step`.
    patch_size, patch_um
        Patch side in level-0 pixels, or in µm.
    pixels
        Patch side in pixels of the encoder's input.
    step
        Extent minus overlap, as stated.
    mpp
        µm per level-0 pixel of the slide.
    slide_size, bounds
        (width, height) of the slide, and (x, y, width, height) of its scanned region, in
        level-0 pixels.
    encoder, verified
        Encoder name, and whether it includes a hash of the weights.
    slide, synthetic
        Fingerprint of the slide, and whether it is synthetic.
    reading
        Version of napari-wsimil's slide readers that produced the encoded pixels.
    notes
        Assumptions made on reading, as sentences.
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


#: Interpretations of coordinates that a user can confirm, see `features.place_readings`.
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
    """Return a name in `READINGS`, or an empty text.

    Raises
    ------
    ValueError
        If it is another name.
    """
    if text and text not in READINGS:
        raise ValueError(f"{text!r} must be one of {', '.join(READINGS)}")
    return text


#: Overrides that can be given as text, and their parsers.
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
    """User overrides of a feature file's metadata.

    They supply values that the file lacks and take precedence over the file's own.

    Attributes
    ----------
    patch_size, stride
        In level-0 pixels.
    pixels
        Patch side in pixels of the encoder's input.
    mpp
        µm per level-0 pixel of the slide.
    encoder
        Name of the encoder; unverified.
    table
        Feature table to read, for files with several.
    patches
        CLAM's patch file of the same slide.
    reading
        Interpretation of the coordinates, a name in `READINGS`; empty if not confirmed.
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
        """Text for tables, which `parse` reads; paths are omitted."""
        values = ((name, getattr(self, name)) for name in _TYPES)
        return "; ".join(f"{name}={value}" for name, value in values if value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as "patch_size=512; mpp=0.25".

        Raises
        ------
        ValueError
            If a name is unknown or its value is invalid.
        """
        values: dict[str, Any] = {}
        for part in filter(None, (one.strip() for one in text.split(";"))):
            name, _, value = (one.strip() for one in part.partition("="))
            try:
                values[name] = _TYPES[name](value)
            except (KeyError, ValueError) as error:
                known = ", ".join(_TYPES)
                message = f"{part!r} is not NAME=VALUE with a name of {known}"
                raise ValueError(message) from error
        return cls(**values)
