"""Presenter: keeps the layers of a viewer in step with a pane."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_wsimil.gui.settings import with_remembered_mpp
from napari_wsimil.gui.text import caption
from napari_wsimil.gui.view_state import Cursor
from napari_wsimil.gui.viewer.camera import Camera
from napari_wsimil.gui.viewer.guards import guard_layer, is_slide
from napari_wsimil.gui.viewer.layers import Layers
from napari_wsimil.gui.viewer.map_layer import MapView
from napari_wsimil.gui.viewer.overlays import hatch_layer, tissue_layer
from napari_wsimil.gui.viewer.picking import Picking
from napari_wsimil.gui.viewer.pointer import Pointer
from napari_wsimil.gui.viewer.readout import Readout
from napari_wsimil.gui.viewer.slide_layers import LayerTuple, slide_layers
from napari_wsimil.gui.viewer.trajectory_layer import PathView
from napari_wsimil.gui.viewer.user_layers import UserLayers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.gui.viewer.picking import Lookup
    from napari_wsimil.slides.slide import Slide

HIDE_KEY = "h"
#: Milliseconds that the first picture of a slide has before its underlay is added.
_SETTLE_MS = 150
#: Milliseconds after the last change of the map until its thumbnail follows.
_REST_MS = 1000


class Presenter:
    """Puts what a session's first pane holds into a viewer's layers.

    Layers of others are put away with the slide they were added on, see `UserLayers`.

    Parameters
    ----------
    viewer
        Where the layers go.
    session
        Its first pane is shown.
    """

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self.viewer = viewer
        self.pane = pane = session.pane
        self.readout = Readout(session)
        self._layers = Layers(viewer)
        self._user = UserLayers(viewer, self._layers, session.shelves)
        self._settling: Slide | None = None
        self._resting = QTimer()
        self._resting.setSingleShot(True)
        self._resting.setInterval(_REST_MS)
        self._resting.timeout.connect(partial(self._layers.rest, "map"))
        self.camera = Camera(viewer, pane)
        self._map = MapView(self._layers, pane)
        self._path = PathView(self._layers, pane, self.camera)
        self.picking = Picking(viewer, self._layers, pane, self.lookup)
        slide, prediction = pane.slide_state.events, pane.prediction_state.events
        slide.slide.connect(self._show_slide)
        slide.tissue.connect(self._show_tissue)
        slide.grid.connect(self._show_tissue)
        prediction.prediction.connect(self._show_map)
        prediction.extras.connect(self._show_map)
        prediction.stale.connect(self._tell_caveat)
        pane.view_state.events.display.connect(self._update_map)
        viewer.layers.events.removed.connect(self._forget)
        viewer.layers.events.inserted.connect(self._adopt)
        self._pointer = Pointer(viewer, self._point)
        viewer.bind_key(HIDE_KEY, self._hide_while_held, overwrite=True)
        for layer in list(viewer.layers):
            self._take(layer)

    @property
    def settling(self) -> bool:
        """Whether a slide is shown whose coarse picture does not lie under it yet."""
        return self._settling is not None

    # the slide

    def _show_slide(self, slide: Slide | None) -> None:
        self._user.put_away(slide)
        for role in self._layers:
            self._layers.remove(role)
        self._map.show()
        self._settling = slide
        if slide is None:
            self._user.bring_back(None)
            self._tell_caveat()
            return
        underlay, image = slide_layers(slide)
        guard_layer(self._layers.put("slide", image))
        QTimer.singleShot(_SETTLE_MS, partial(self._lay_under, slide, underlay))
        self.viewer.canvas.overlays.scale_bar.visible = slide.resolution.known
        self.viewer.reset_view()
        self._user.bring_back(slide)
        self._tell_caveat()

    def _lay_under(self, slide: Slide, underlay: LayerTuple) -> None:
        """Lay the coarse picture under the slide, once the slide itself has been painted."""
        if self._settling is slide and self._layers.get("slide") is not None:
            self._settling = None
            self._layers.put("underlay", underlay)

    def _adopt(self, event: Any) -> None:
        self._take(event.value)

    def _take(self, layer: Layer) -> None:
        """Show a slide that napari itself opened as if it had been opened in the Slide dock.

        napari's own layers of it go: they tell the name of the file. Other layers get the units
        of the slide.
        """
        self._user.take(layer)
        if is_slide(layer) and layer not in self._layers:
            QTimer.singleShot(0, partial(self._show_instead, layer.metadata["slide"]))

    def _show_instead(self, slide: Slide) -> None:
        if slide is self.pane.slide:
            return
        for layer in list(self.viewer.layers):
            if layer.metadata.get("slide") is slide and layer not in self._layers:
                self.viewer.layers.remove(layer)
        if not self.pane.may_leave():
            slide.close()
            return
        before = self.pane.slide
        self.pane.show_slide(with_remembered_mpp(slide))
        if before is not None:
            before.close()

    def _show_tissue(self, *_: object) -> None:
        """Show where tissue was found, and once patches lie on it what they leave out."""
        self._layers.remove("tissue")
        slide, tissue, grid = self.pane.slide, self.pane.tissue, self.pane.grid
        if slide is None or tissue is None:
            return
        plain = tissue_layer(slide, tissue) if grid is None else hatch_layer(slide, tissue, grid)
        self._layers.put("tissue", plain)

    # the map

    def _show_map(self, _: object = None) -> None:
        shown, index = self.pane.shown, self.pane.display.map_index
        if shown is not None and index >= len(shown.explanations):
            self.pane.view_state.display = replace(self.pane.display, map_index=0)
        self._draw_map()

    def _draw_map(self) -> None:
        self._map.show()
        self._resting.start()
        self._tell_caveat()

    def _update_map(self, display: Display, before: Display) -> None:
        if self._layers.get("map") is None and display.map_index == before.map_index:
            return  # deleted by hand, until another map is chosen
        if replace(display, opacity=before.opacity, visible=before.visible) == before:
            self._map.shade()
        else:
            self._draw_map()

    def lookup(self) -> Lookup | None:
        """Return what finds the patches of the prediction by place, None without one."""
        prediction = self.pane.prediction
        grid = None if prediction is None else prediction.bag.grid
        return None if grid is None else self.readout.lookups.of(grid)

    # words

    def _tell_caveat(self, _: object = None) -> None:
        """Write beside the color bar what it measures and what it does not."""
        overlay, pane = self.viewer.canvas.overlays.text, self.pane
        shown: Prediction | None = pane.shown if self._layers.get("map") is not None else None
        overlay.text = caption(pane.slide, shown, pane.display, pane.prediction_state.stale)
        overlay.position = "top_left"
        overlay.visible = bool(overlay.text)

    def _point(self, place: tuple[float, float] | None, _: object) -> None:
        """Tell the pane where the mouse is."""
        self.pane.view_state.cursor = None if place is None else self._cursor(*place)

    def _cursor(self, y: float, x: float) -> Cursor:
        mpp = (self.pane.slide.resolution.mpp if self.pane.slide else None) or 1.0
        return Cursor(x / mpp, y / mpp)

    def describe(self, y: float, x: float) -> str:
        """Return the read-out of a world position."""
        return self.readout.describe(self._cursor(y, x))

    def _hide_while_held(self, _: object) -> Iterator[None]:
        self.pane.view_state.display = replace(self.pane.display, visible=False)
        yield
        self.pane.view_state.display = replace(self.pane.display, visible=True)

    # layers

    def _forget(self, event: Any) -> None:
        """Drop a layer that the user deleted by hand; without its layer a slide is closed."""
        role = self._layers.forget(event.value)
        if role == "slide" and self.pane.slide is not None:
            QTimer.singleShot(0, partial(self._shut, self.pane.slide))
        elif role == "map":
            self._map.lose()
            self._tell_caveat()

    def _shut(self, slide: Slide) -> None:
        if self.pane.slide is not slide:
            return
        if self.pane.may_leave():
            self.pane.show_slide(None)
            slide.close()
        else:
            self._show_slide(slide)
            self._show_tissue()
