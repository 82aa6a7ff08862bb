"""napari reader of slides; imports neither torch nor Qt."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LayerTuple = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerTuple]] | None:
    """Return the reader of a path, or None."""
    first = Path(path[0] if isinstance(path, list) else path)
    if first.is_dir() and not any(first.glob("*.dcm")):
        return None
    return read_slides


def read_slides(path: str | list[str]) -> list[LayerTuple]:
    """Return the layers of one or several slides.

    Errors displayed by napari contain no file names.
    """
    from napari_wsimil.gui.viewer.slide_layers import slide_layers
    from napari_wsimil.slides.slide import open_slide

    if "napari" in sys.modules:  # its notifications would display file names
        from napari_wsimil.gui.notices import hide_names

        hide_names()
    slides = [open_slide(one) for one in (path if isinstance(path, list) else [path])]
    for slide in slides:
        for note in slide.notes():
            warnings.warn(note, stacklevel=2)  # napari displays it
    return [layer for slide in slides for layer in slide_layers(slide)]
