"""Contract of a slide reader: it gives the stored tiles of one slide."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.slides.geometry import Level, Resolution, SlideImage

#: What parsers of broken files raise; a reader turns each into a `SlideError`.
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
    """The stored tiles of one slide, and what its file says of itself.

    Attributes
    ----------
    vendor
        Scanner or format family, e.g. "aperio".
    levels
        The file's own levels, finest first, each with its tile size.
    resolution
        µm per level-0 pixel and where it came from.
    properties
        The header as text; may identify a patient.
    associated
        Names of label, macro and thumbnail images; may identify a patient.
    identity
        Text that is equal for two files with the same content.
    changes
        What of this file earlier readers read otherwise, see `Reading`.
    notes
        Sentences on corrected or unused levels; they contain no file name.
    images
        The images of the file or folder that could be its slide, in their order there.
    image
        Which of them is open.
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
        """Return (h, w, 3) of one stored tile, cut off at the level's border.

        Raises
        ------
        SlideError
            The tile cannot be read or decoded; names the file and the tile.
        """

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """Return (h, w, 3) of an associated image."""

    @property
    def closed(self) -> bool:
        """Return whether it was closed: then every read raises SlideError."""

    def close(self) -> None:
        """Read no more. Reads under way in other threads still end well."""
