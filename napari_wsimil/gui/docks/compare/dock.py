"""BesideWidget: maps side by side on one slide, their cameras linked with the main canvas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt import QtViewer
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.gui.view_state import Cursor
from napari_wsimil.gui.viewer.cells import cells_beside
from napari_wsimil.gui.viewer.map_layer import STYLE, restyle
from napari_wsimil.gui.viewer.overlays import map_layer
from napari_wsimil.gui.viewer.pointer import Pointer
from napari_wsimil.gui.viewer.slide_layers import slide_layers
from napari_wsimil.gui.widgets.dock import listen

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.view_state import Display, View
    from napari_wsimil.gui.viewer.cells import Cell
    from napari_wsimil.gui.viewer.slide_layers import LayerTuple
    from napari_wsimil.slides.slide import Slide

_HEIGHT = 150  # px on screen, at least
_SMALL = 8  # points
#: Milliseconds after which new cells are laid out: at once, and when the dock is shown.
_LAID_MS = (0, 80)


class BesideWidget(QWidget):
    """Shows the maps that the panes of a session want beside the main canvas.

    Parameters
    ----------
    session
        The maps in `side` of the first pane, and the map of the second one.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._following = False
        self._laying = 0
        self._drawn: list[Cell] = []
        self._canvas: QtViewer | None = None
        self.model = ViewerModel()
        self.setMinimumHeight(_HEIGHT)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.model.scene.camera.events.zoom.connect(self._lead)
        self.model.scene.camera.events.center.connect(self._lead)
        self.model.canvas.events.size.connect(self._follow)
        for pane in session.panes:
            prediction, view = pane.prediction_state.events, pane.view_state.events
            listen(self, self._show, prediction.prediction, prediction.extras)
            listen(self, self._show, view.display, view.side, pane.slide_state.events.slide)
        listen(self, self._follow, session.pane.view_state.events.view)
        self._pointer = Pointer(self.model, self._point)
        self._show()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Give the canvas up when the window is closed."""
        if event.type() == QEvent.Type.Close:
            self._close()
        return False

    def _open(self) -> None:
        """Make the canvas at its first use: it takes a moment that a start need not wait for."""
        if self._canvas is None:
            self._canvas = QtViewer(self.model)
            self._canvas.setAcceptDrops(False)  # layers dropped here would go with the next map
            self.layout().addWidget(self._canvas)
            self.window().installEventFilter(self)

    def _close(self) -> None:
        canvas, self._canvas = self._canvas, None
        if canvas is not None:
            self.model.layers.clear()
            canvas.close()

    @property
    def loaded(self) -> bool:
        """Whether nothing is still being read, and all is where it should be."""
        return not self._laying and all(layer.loaded for layer in self.model.layers)

    def _show(self, _: object = None) -> None:
        """Draw what is wanted; where only colors change, in the layers that are there."""
        cells = cells_beside(self._session)
        if _layout(cells) == _layout(self._drawn):
            self._redraw(cells)
            return
        before = bool(self._drawn)
        self._open()
        self._rebuild(cells)
        dock = self.parentWidget()
        if dock is not None and before != bool(cells):  # else whoever closed it wants it closed
            dock.setVisible(bool(cells))

    def _rebuild(self, cells: list[Cell]) -> None:
        """Lay all cells anew; napari moves the camera meanwhile, which the main one must not."""
        self._following = True
        try:
            self.model.layers.clear()
            self.model.canvas.grid.enabled = False
            for slide, prediction, display in cells:
                data, options, kind = slide_layers(slide)[1]
                self.model.add_layer(Layer.create(data, options | {"metadata": {}}, kind))
                added = Layer.create(*_labeled(slide, prediction, display))
                added.name_overlay.visible = True
                added.name_overlay.font_size = _SMALL
                added.visible = display.visible
                self.model.add_layer(added)
            self.model.canvas.grid.stride = 2
            self.model.canvas.grid.shape = (1, max(1, len(cells)))
            self.model.canvas.grid.spacing = 4
            self.model.canvas.grid.enabled = bool(cells)
        finally:
            self._following = False
        self._drawn = cells
        self._follow()
        self._laying += len(_LAID_MS)
        for wait in _LAID_MS:
            QTimer.singleShot(wait, self._lay_out)

    def _lay_out(self) -> None:
        """Lay new cells out, which napari does when the canvas is another size: by one pixel."""
        self._laying = max(0, self._laying - 1)
        if isalive(self) and self._canvas is not None:
            below = (self.layout().contentsMargins().bottom() + 1) % (len(_LAID_MS) + 1)
            self.layout().setContentsMargins(0, 0, 0, below)

    def _redraw(self, cells: list[Cell]) -> None:
        """Draw what differs from what is drawn; where only the shade does, nothing is painted."""
        for number, (cell, before) in enumerate(zip(cells, self._drawn, strict=True)):
            layer, display = self.model.layers[2 * number + 1], cell[2]
            shade = {"opacity": display.opacity, "visible": display.visible}
            like = replace(before[2], opacity=display.opacity, visible=display.visible)
            if cell[1] is not before[1] or like != display:
                values, options, _ = _labeled(*cell)
                layer.data = values
                restyle(layer, {name: options[name] for name in STYLE})
            restyle(layer, shade)
        self._drawn = cells

    def _point(self, place: tuple[float, float] | None, cell: tuple[int, int] | None) -> None:
        """Tell the session where the mouse is, and over which map."""
        if place is None or cell is None:
            self._session.pane.view_state.cursor = None
        else:
            y, x = place
            self._session.pane.view_state.cursor = Cursor(x / self._mpp, y / self._mpp, cell[1])

    # cameras

    def _follow(self, _: object = None) -> None:
        """Show in every cell what the main canvas shows."""
        view = self._session.pane.view_state.view
        if not isalive(self) or self._following or view is None or not self._drawn:
            return
        self._following = True
        try:
            camera, mpp = self.model.scene.camera, self._mpp
            camera.center = (0.0, view.y * mpp, view.x * mpp)
            camera.zoom = self._fit(view)
        finally:
            self._following = False

    def _lead(self, _: object = None) -> None:
        """Let the main canvas show what a cell shows."""
        view = self._session.pane.view_state.view
        if not isalive(self) or self._following or view is None or not self._drawn:
            return
        self._following = True
        try:
            camera, mpp = self.model.scene.camera, self._mpp
            y, x = camera.center[-2:]
            share = self._fit(view) / camera.zoom
            self._session.pane.view_state.wanted = view.moved(x / mpp, y / mpp, share)
        finally:
            self._following = False

    def _fit(self, view: View) -> float:
        """Return the zoom at which a cell shows all of a view."""
        height, width = self.model.canvas.size
        width /= max(1, len(self._drawn))
        return float(min(width / view.width, height / view.height)) / self._mpp

    @property
    def _mpp(self) -> float:
        slide = self._session.pane.slide
        return (slide.resolution.mpp if slide else None) or 1.0


def _labeled(slide: Slide, prediction: Prediction, display: Display) -> LayerTuple:
    """Return a map's layer, named with its limits and unit, which has no color bar of its own."""
    values, options, kind = map_layer(slide, prediction, display)
    scale = scaled(prediction, display.map_index, display.stretch)
    low, high = scale.limits
    smooth = ", smoothed" if display.smooth else ""
    span = f"{low:g} to {high:g}"
    unit = span if scale.unit == span else f"{span} {scale.unit}"
    name = f"{scale.title}: {unit}{smooth}"
    return values, options | {"name": name}, kind


def _layout(cells: list[Cell]) -> list[int]:
    return [id(slide) for slide, _, _ in cells]
