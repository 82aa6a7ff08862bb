"""MapView: the map of a pane in a viewer, filled or as outlines, and what was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.gui.viewer.layers import renew
from napari_wsimil.gui.viewer.outline_layers import area_layer, chosen_layer, outline_layer
from napari_wsimil.gui.viewer.overlays import map_layer
from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.view_state import Display, View
    from napari_wsimil.gui.viewer.layers import Layers
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


#: µm per screen pixel below which patches are outlined: magnification above 10×.
OUTLINES_BELOW = 1.0

#: What is shown and hidden with the map.
_OVER = ("map", "fine", "chosen", "path", "look")

STYLE = ("scale", "translate", "colormap", "contrast_limits", "name")


class MapView:
    """Draws what a pane shows of its prediction, in layers that are kept as long as they fit.

    Parameters
    ----------
    layers
        Where it is drawn.
    pane
        What is drawn.
    """

    def __init__(self, layers: Layers, pane: Pane) -> None:
        self._layers, self._pane = layers, pane
        self._outlines = Outlines(layers)
        self._outlined: bool | None = None
        pane.view_state.events.view.connect(self._follow)
        pane.view_state.events.area.connect(self._show_area)

    def show(self) -> None:
        """Draw the map anew, in the layer it has if there is one: that is many times faster."""
        slide, prediction, display = self._pane.slide, self._pane.shown, self._pane.display
        if slide is None or prediction is None or prediction.bag.grid is None:
            for role in ("map", "chosen", "query"):
                self._layers.remove(role)
            self._outlines.clear()
            return
        values, options, kind = map_layer(slide, prediction, display)
        layer = self._layers.get("map")
        if layer is None:
            layer = self._layers.put("map", (values, options, kind))
            layer.colorbar.visible = True
        else:
            renew(layer, values)
            restyle(layer, {name: options[name] for name in STYLE})
        self._outlines.forget()
        self._show_chosen(slide, prediction, display)
        self.shade()

    def lose(self) -> None:
        """Take the outlines away of a map that was deleted by hand."""
        self._outlines.clear()

    def shade(self) -> None:
        """Show or hide the map, filled or as outlines."""
        layer, visible = self._layers.get("map"), self._pane.display.visible
        if layer is None:
            return
        for role in _OVER:
            over = self._layers.get(role)
            if over is not None:
                restyle(over, {"visible": visible})
        self._outlined = None
        self._follow(self._pane.view_state.view)

    def _show_chosen(self, slide: Slide, prediction: Prediction, display: Display) -> None:
        choices = [one for one in prediction.explanations if one.outlined]
        if not choices or not display.outlined:
            self._layers.remove("chosen")
            return
        self._layers.put_lines("chosen", chosen_layer(slide, prediction, choices))

    def _show_area(self, area: Region | None) -> None:
        if area is None or self._pane.slide is None:
            self._layers.remove("query")
        else:
            self._layers.put_lines("query", area_layer(self._pane.slide, area))

    def _follow(self, view: View | None) -> None:
        """Show patches as outlines where one can see the cells, else filled."""
        self._layers.widen()
        layer, slide, prediction = self._layers.get("map"), self._pane.slide, self._pane.shown
        if layer is None or slide is None or prediction is None or view is None:
            return
        display, outlined = self._pane.display, False
        if layer.visible and view.um is not None and view.um < OUTLINES_BELOW:
            outlined = self._outlines.draw(slide, prediction, display, view.region)
        else:
            self._outlines.hide()
        if outlined != self._outlined:  # else the user's own opacity stays
            self._outlined = outlined
            restyle(layer, {"opacity": 0.0 if outlined else display.opacity})


def restyle(layer: Layer, options: dict[str, Any]) -> None:
    """Set what differs: whatever is set, napari draws anew, after a new colormap from scratch."""
    for name, value in options.items():
        now, wanted = getattr(layer, name), value
        if name == "colormap":  # by its colors: napari gives it a name of its own
            now, wanted = np.float32(now.colors), np.float32(value["colors"])
        if not np.array_equal(now, wanted):
            setattr(layer, name, value)
