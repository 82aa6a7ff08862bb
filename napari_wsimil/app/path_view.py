"""PathView: the looks of a trajectory on the slide, as far as they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.app.outline_layers import look_layer, path_layer
from napari_wsimil.models.sasha.trajectory import Trajectory

if TYPE_CHECKING:
    from napari_wsimil.app.camera import Camera
    from napari_wsimil.app.layers import Layers
    from napari_wsimil.app.session import Pane


class PathView:
    """Draws the path of looks, and a frame around the patch that was looked at last.

    Parameters
    ----------
    layers
        Where it is drawn.
    pane
        Its `looks` says how many are shown; None shows all.
    camera
        Follows the last look where the pane wants it.
    """

    def __init__(self, layers: Layers, pane: Pane, camera: Camera) -> None:
        self._layers, self._pane, self._camera = layers, pane, camera
        pane.events.prediction.connect(self._show)
        pane.events.looks.connect(self._show)

    def _show(self, _: object = None) -> None:
        slide, prediction = self._pane.slide, self._pane.prediction
        path = None if prediction is None else prediction.trajectory
        grid = None if prediction is None else prediction.bag.grid
        if slide is None or prediction is None or grid is None or not isinstance(path, Trajectory):
            self._clear()
            return
        order = path.order[: self._pane.looks].numpy()
        if not len(order):
            self._clear()
            return
        layer = self._layers.get("path")
        data, *options = path_layer(slide, prediction, order)
        if layer is None:
            self._layers.put("path", (data, *options))
        else:
            layer.data = data
        last = int(order[-1])
        name = f"look {len(order)} of {len(path.looks)}"
        self._layers.put("look", look_layer(slide, prediction, last, name))
        if self._pane.follows:
            self._camera.follow(grid, last)

    def _clear(self) -> None:
        for role in ("path", "look", "fine"):
            self._layers.remove(role)
