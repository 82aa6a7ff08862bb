"""Presenter: keeps the layers of a viewer in step with a session."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_wsimil.app.guards import guard_conversions, guard_figures, guard_layer, is_slide
from napari_wsimil.app.memory import with_remembered_mpp
from napari_wsimil.app.outlines import Outlines
from napari_wsimil.app.overlays import hatch_layer, map_layer, tissue_layer
from napari_wsimil.app.slide_layers import LayerTuple, slide_layers
from napari_wsimil.app.words import caption, reading
from napari_wsimil.space.geometry import Region
from napari_wsimil.space.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari import Viewer

    from napari_wsimil.app.session import Display, Pane, Session
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.raster import Raster
    from napari_wsimil.space.slide import Slide

#: Microns per screen pixel below which patches are outlines: magnification above 10×.
OUTLINES_BELOW = 1.0
HIDE_KEY = "h"
#: Milliseconds that the first picture of a slide has before its underlay is added.
_SETTLE_MS = 150


class Presenter:
    """Puts what a pane holds into a viewer's layers; touches no layer of anyone else.

    Parameters
    ----------
    viewer
        Where the layers go.
    session
        Its first pane is shown.
    """

    def __init__(self, viewer: Viewer, session: Session) -> None:
        self.viewer = viewer
        self.session = session
        self._layers: dict[str, Layer] = {}
        self._raster: Raster | None = None
        self._settling: Slide | None = None
        self._outlines = Outlines(viewer)
        self._outlined: bool | None = None
        events = self.pane.events
        events.slide.connect(self._show_slide)
        events.tissue.connect(self._show_tissue)
        events.grid.connect(self._show_tissue)
        events.prediction.connect(self._show_map)
        events.display.connect(self._update_map)
        events.focus.connect(self._fly_to)
        viewer.layers.events.removed.connect(self._forget)
        viewer.layers.events.inserted.connect(self._adopt)
        viewer.mouse_move_callbacks.append(self._tell_patch)
        viewer.scene.camera.events.zoom.connect(self._follow_camera)
        viewer.scene.camera.events.center.connect(self._follow_camera)
        viewer.bind_key(HIDE_KEY, self._hide_while_held, overwrite=True)
        guard_figures(viewer)
        guard_conversions(viewer)
        for layer in list(viewer.layers):
            self._take(layer)

    @property
    def pane(self) -> Pane:
        return self.session.pane

    @property
    def settling(self) -> bool:
        """Whether a slide is shown whose coarse picture does not lie under it yet."""
        return self._settling is not None

    # the slide

    def _show_slide(self, slide: Slide | None) -> None:
        self._outlines.clear()
        for role in list(self._layers):
            self._remove(role)
        self._settling = slide
        if slide is None:
            self._tell_caveat()
            return
        underlay, image = slide_layers(slide)
        guard_layer(self._add("slide", image))
        QTimer.singleShot(_SETTLE_MS, partial(self._lay_under, slide, underlay))
        self.viewer.canvas.overlays.scale_bar.visible = slide.resolution.known
        self.viewer.reset_view()
        self._tell_caveat()

    def _lay_under(self, slide: Slide, underlay: LayerTuple) -> None:
        """Lay the coarse picture under the slide, once the slide itself has been painted."""
        layer = self._layers.get("slide")
        if self._settling is not slide or layer is None:
            return
        self._settling = None
        selected = set(self.viewer.layers.selection)
        self._layers["underlay"] = Layer.create(*underlay)
        self.viewer.layers.insert(self.viewer.layers.index(layer), self._layers["underlay"])
        self.viewer.layers.selection = selected

    def _adopt(self, event: Any) -> None:
        self._take(event.value)

    def _take(self, layer: Layer) -> None:
        """Show a slide that napari itself opened as if it had been opened in the Slide dock.

        napari's own layers of it go: they tell the name of the file.
        """
        if is_slide(layer) and layer not in self._layers.values():
            QTimer.singleShot(0, partial(self._show_instead, layer.metadata["slide"]))

    def _show_instead(self, slide: Slide) -> None:
        if slide is self.pane.slide:
            return
        for layer in list(self.viewer.layers):
            if layer.metadata.get("slide") is slide and layer not in self._layers.values():
                self.viewer.layers.remove(layer)
        before = self.pane.slide
        self.pane.show_slide(with_remembered_mpp(slide))
        if before is not None:
            before.close()

    def _show_tissue(self, *_: object) -> None:
        """Show where tissue was found, and once patches lie on it what they leave out."""
        self._remove("tissue")
        slide, tissue, grid = self.pane.slide, self.pane.tissue, self.pane.grid
        if slide is None or tissue is None:
            return
        plain = tissue_layer(slide, tissue) if grid is None else hatch_layer(slide, tissue, grid)
        self._add("tissue", plain)

    # the map

    def _show_map(self, prediction: Prediction | None) -> None:
        self._raster = None
        grid = None if prediction is None else prediction.bag.grid
        if prediction is None or grid is None or self.pane.slide is None:
            self._remove("map")
            self._outlines.clear()
            self._tell_caveat()
            return
        if self.pane.display.map_index >= len(prediction.explanations):
            self.pane.display = replace(self.pane.display, map_index=0)
        self._draw_map(self.pane.slide, prediction, self.pane.display)

    def _update_map(self, display: Display, before: Display) -> None:
        slide, prediction, layer = self.pane.slide, self.pane.prediction, self._layers.get("map")
        if slide is None or prediction is None or layer is None:
            return
        if replace(display, opacity=before.opacity, visible=before.visible) == before:
            self._shade(layer)
        else:
            self._draw_map(slide, prediction, display)

    def _draw_map(self, slide: Slide, prediction: Prediction, display: Display) -> None:
        """Draw the map anew, in the layer it has if there is one: that is many times faster."""
        values, options, kind = map_layer(slide, prediction, display)
        layer = self._layers.get("map")
        if layer is None:
            layer = self._add("map", (values, options, kind))
            layer.colorbar.visible = True
        else:
            layer.data = values
            names = ("scale", "translate", "colormap", "contrast_limits", "name")
            _restyle(layer, {name: options[name] for name in names})
        self._outlines.clear()
        self._shade(layer)
        self._tell_caveat()

    def _shade(self, layer: Layer) -> None:
        """Show or hide the map, filled or as outlines."""
        _restyle(layer, {"visible": self.pane.display.visible})
        self._outlined = None
        self._follow_camera()

    def _follow_camera(self, *_: object) -> None:
        """Show patches as outlines where one can see the cells, else filled."""
        layer, slide, prediction = self._layers.get("map"), self.pane.slide, self.pane.prediction
        if layer is None or slide is None or prediction is None:
            return
        display, outlined = self.pane.display, False
        if layer.visible and self._is_close(slide):
            outlined = self._outlines.draw(slide, prediction, display, self.view())
        else:
            self._outlines.clear()
        if outlined != self._outlined:  # else the user's own opacity stays
            self._outlined = outlined
            _restyle(layer, {"opacity": 0.0 if outlined else display.opacity})

    def _is_close(self, slide: Slide) -> bool:
        return slide.resolution.known and self.viewer.scene.camera.zoom * OUTLINES_BELOW > 1

    def view(self) -> Region:
        """Return what the canvas shows in level-0 pixels of the slide."""
        camera, (height, width) = self.viewer.scene.camera, self.viewer.canvas.size
        mpp = self._mpp()
        y, x = camera.center[-2] / mpp, camera.center[-1] / mpp
        rows, columns = height / camera.zoom / mpp, width / camera.zoom / mpp
        corner = math.floor(x - columns / 2), math.floor(y - rows / 2)
        return Region(*corner, math.ceil(columns), math.ceil(rows))

    def _fly_to(self, patch: int | None) -> None:
        """Center a patch of the prediction so that three of it fill the canvas."""
        prediction = self.pane.prediction
        if patch is None or prediction is None or prediction.bag.grid is None:
            return
        grid, mpp = prediction.bag.grid, self._mpp()
        x, y = (grid.coords[patch] + grid.patch_size / 2) * mpp
        camera = self.viewer.scene.camera
        height, width = self.viewer.canvas.size
        camera.center = (0.0, y, x)
        camera.zoom = min(height, width) / (3.0 * grid.patch_size * mpp)

    def _mpp(self) -> float:
        slide = self.pane.slide
        return (slide.resolution.mpp if slide else None) or 1.0

    # words

    def _tell_caveat(self) -> None:
        """Write beside the color bar what it measures and what it does not."""
        overlay = self.viewer.canvas.overlays.text
        shown = self.pane.prediction if "map" in self._layers else None
        overlay.text = caption(self.pane.slide, shown, self.pane.display)
        overlay.position = "top_left"
        overlay.visible = bool(overlay.text)

    def _tell_patch(self, _: object, event: Any) -> None:
        text = self.describe(*event.position[-2:])
        if text:
            self.viewer.status = text

    def describe(self, y: float, x: float) -> str:
        """Return what is known of the patch at a world position; nothing without a map."""
        prediction, mpp = self.pane.prediction, self._mpp()
        grid = None if prediction is None else prediction.bag.grid
        if prediction is None or grid is None:
            return ""
        if self._raster is None:
            self._raster = rasterize(grid, np.arange(len(grid), dtype=np.float32))
        return reading(prediction, self.pane.display, self._raster, x / mpp, y / mpp)

    def _hide_while_held(self, _: Viewer) -> Iterator[None]:
        self.pane.display = replace(self.pane.display, visible=False)
        yield
        self.pane.display = replace(self.pane.display, visible=True)

    # layers

    def _add(self, role: str, layer: LayerTuple) -> Layer:
        self._remove(role)
        added = self._layers[role] = Layer.create(*layer)
        self.viewer.add_layer(added)
        return added

    def _remove(self, role: str) -> None:
        layer = self._layers.pop(role, None)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def _forget(self, event: Any) -> None:
        """Drop a layer that the user deleted by hand; without its layer a slide is closed."""
        for role, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[role]
                if role == "slide" and self.pane.slide is not None:
                    QTimer.singleShot(0, partial(self._shut, self.pane.slide))

    def _shut(self, slide: Slide) -> None:
        if self.pane.slide is slide:
            self.pane.show_slide(None)
            slide.close()


def _restyle(layer: Layer, options: dict[str, Any]) -> None:
    """Set what differs: whatever is set, napari draws anew, after a new colormap from scratch."""
    for name, value in options.items():
        now = getattr(layer, name)
        same = now.name == value["name"] if name == "colormap" else np.array_equal(now, value)
        if not same:
            setattr(layer, name, value)
