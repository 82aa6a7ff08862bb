"""Protocol of slide readers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.slides.geometry import Level, Resolution, SlideImage

#: Errors raised by parsers of damaged files; readers convert them to `SlideError`.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


class Reader(Protocol):
    """Stored tiles and metadata of one slide.

    A reader decodes the tiles of one file format and states the geometry of its levels.
    Everything else (the cache, virtual levels, regions, resizing) is in `Pyramid` and `Slide`
    and works for all formats. A new format therefore needs only one class with these
    attributes and methods, and a line in `open_reader`.

    Attributes
    ----------
    vendor
        Scanner or format family, e.g. "aperio".
    levels
        Levels stored in the file, finest first, each with its tile size.
    resolution
        µm per level-0 pixel, with its source.
    properties
        Header as text; may identify a patient.
    associated
        Names of label, macro and thumbnail images; may identify a patient.
    identity
        Text that is equal for two files with the same content.
    changes
        Changes of the readers that affect this file, see `Reading`.
    notes
        Sentences on corrected or unused levels, without a file name.
    images
        Images of the file or folder that may be its slide, in stored order.
    image
        Number of the open one.
    """

    vendor: str
    levels: tuple[Level, ...]
    resolution: Resolution
    properties: Mapping[str, str]
    associated: tuple[str, ...]
    identity: str
    changes: Mapping[str, int]
    notes: tuple[str, ...]
    images: tuple[SlideImage, ...]
    image: int

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return a tile (h, w, 3), cropped to its level.

        Raises
        ------
        SlideError
            The tile cannot be read or decoded; the message names the file and the tile.
        """

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """Return (h, w, 3) of an associated image."""

    @property
    def closed(self) -> bool:
        """True once closed: every read then raises SlideError."""

    def close(self) -> None:
        """Close the file; running reads in other threads still complete."""
