"""Outlines: the patches in view as frames, where one is close enough to see cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.app.outline_layers import outline_layer
from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from napari_wsimil.app.display import Display
    from napari_wsimil.app.layers import Layers
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.slides.slide import Slide


class Outlines:
    """One layer, which stays, drawn anew only when the view leaves what it covers."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._covered: Region | None = None

    def draw(self, slide: Slide, prediction: Prediction, display: Display, view: Region) -> bool:
        """Outline the patches in `view` (level-0 pixels) and half a view around it.

        Returns whether there are any; there are none where they would be too many.
        """
        if self._covered is None or not _within(view, self._covered):
            self._covered = Region(
                view.x - view.width // 2, view.y - view.height // 2, 2 * view.width, 2 * view.height
            )
            lines = outline_layer(slide, prediction, display, self._covered)
            layer = self._layers.put_lines("outlines", lines)
            if layer is not None and layer.edge_width != lines[1]["edge_width"]:
                layer.edge_width = lines[1]["edge_width"]
        layer = self._layers.get("outlines")
        if layer is not None and not layer.visible:
            layer.visible = True
        return layer is not None

    def forget(self) -> None:
        """Draw anew when next asked to: the map has changed."""
        self._covered = None

    def hide(self) -> None:
        """Show none; the layer stays, since napari takes long to take it away and lay it again."""
        layer = self._layers.get("outlines")
        if layer is not None and layer.visible:
            layer.visible = False

    def clear(self) -> None:
        """Take the layer away, if it is still there."""
        self._covered = None
        self._layers.remove("outlines")


def _within(inner: Region, outer: Region) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )
