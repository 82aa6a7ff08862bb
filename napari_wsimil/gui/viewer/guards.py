"""Guards: what napari offers for any image, and what would pull a whole slide into memory.

`LevelArray` refuses by itself whatever reads it. Three of napari's controls need a word
before they get there: saving, since napari wraps the levels of an image in a type of its
own; exporting a figure, which sizes the canvas to the slide first; and converting to
another kind of layer, which takes the image out of the list before it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.slides.lazy_array import MAX_PIXELS, LevelArray, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Layer

_SAVING = (
    "A whole slide is not saved as one picture: take a screenshot of the view, "
    "or export the map from the Explain dock."
)
_CONVERSION = (
    "A whole slide cannot be converted: it does not fit in memory. "
    "Draw labels or shapes in a layer of their own over it."
)
_FIGURE = (
    "A figure of the whole slide would be {0} × {1} pixels: take a screenshot of the view, "
    "or export the map from the Explain dock."
)


class SlideLevels(list[LevelArray]):
    """The levels of a slide where napari would write them to one file."""

    def __init__(self, levels: Any) -> None:
        super().__init__(levels)
        self.dtype, self.shape, self.ndim = levels[0].dtype, levels[0].shape, levels[0].ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TooLargeError(_SAVING)


def is_slide(layer: Layer) -> bool:
    """Return whether a layer shows a slide through `LevelArray`."""
    return bool(getattr(layer, "multiscale", False)) and isinstance(layer.data[0], LevelArray)


def guard_layer(layer: Layer) -> None:
    """Let saving `layer` end with a sentence."""
    plain: Callable[[], tuple[Any, dict[str, Any], str]] = layer.as_layer_data_tuple

    def as_layer_data_tuple() -> tuple[Any, dict[str, Any], str]:
        data, options, kind = plain()
        return SlideLevels(data), options, kind

    layer.as_layer_data_tuple = as_layer_data_tuple


def quiet(layer: Layer) -> None:
    """Let napari's status bar only name `layer`: the read-out has position and value."""
    plain: Callable[[], dict[str, str]] = layer.get_status

    def get_status(*_: object, **__: object) -> dict[str, str]:
        return {**plain(), "coordinates": " ", "coords": "", "value": ""}  # "": napari adds help

    layer.get_status = get_status


def guard_figures(viewer: Viewer) -> None:
    """Let exporting a figure of a large slide end with a sentence."""
    window = viewer.window
    plain = window.export_figure

    def export_figure(path: str | None = None, scale: float = 1, flash: bool = True) -> Any:
        for layer in viewer.layers:
            if layer.visible and is_slide(layer):
                height, width = (np.array(layer.data[0].shape[:2]) * scale).astype(int)
                if height * width > MAX_PIXELS // 4:
                    raise TooLargeError(_FIGURE.format(width, height))
        return plain(path, scale, flash)

    window.export_figure = export_figure


def guard_conversions(viewer: Viewer) -> None:
    """Let converting a slide to labels, or splitting it, end with a sentence."""
    layers = viewer.layers
    plain = layers.pop

    def pop(index: int = -1) -> Layer:
        if index != -1 and is_slide(layers[index]):  # clearing the list pops the last
            raise TooLargeError(_CONVERSION)
        return plain(index)

    layers.pop = pop
