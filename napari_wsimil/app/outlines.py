"""Outlines: the patches in view as frames, where one is close enough to see cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Layer

from napari_wsimil.app.overlays import outline_layer
from napari_wsimil.space.geometry import Region

if TYPE_CHECKING:
    from napari import Viewer

    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.slide import Slide


class Outlines:
    """One layer of a viewer, drawn anew only when the view leaves what it covers."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._covered: Region | None = None

    def draw(self, slide: Slide, prediction: Prediction, display: Display, view: Region) -> bool:
        """Outline the patches in `view` (level-0 pixels) and half a view around it.

        Returns whether there are any; there are none where they would be too many.
        """
        if self._covered is not None and _within(view, self._covered):
            return self._layer is not None
        self.clear()
        self._covered = Region(
            view.x - view.width // 2, view.y - view.height // 2, 2 * view.width, 2 * view.height
        )
        data, options, kind = outline_layer(slide, prediction, display, self._covered)
        if len(data):
            selected = set(self._viewer.layers.selection)
            self._layer = self._viewer.add_layer(Layer.create(data, options, kind))
            self._viewer.layers.selection = selected
        return self._layer is not None

    def clear(self) -> None:
        """Take the layer away, if it is still there."""
        layer, self._layer, self._covered = self._layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)


def _within(inner: Region, outer: Region) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )
