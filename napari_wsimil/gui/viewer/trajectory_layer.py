"""PathView: the looks of a trajectory on the slide, as far as they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.explain.trajectory import sub_patches, trajectory_of
from napari_wsimil.gui.viewer.layers import at_once
from napari_wsimil.gui.viewer.map_layer import restyle
from napari_wsimil.gui.viewer.outline_layers import look_layer, path_layer
from napari_wsimil.gui.viewer.overlays import fine_layer

if TYPE_CHECKING:
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.viewer.camera import Camera
    from napari_wsimil.gui.viewer.layers import Layers
    from napari_wsimil.models.trajectory import Trajectory
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide


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
        pane.prediction_state.events.prediction.connect(self._show)
        pane.view_state.events.looks.connect(self._show)
        pane.view_state.events.finely.connect(self._show)

    def _show(self, _: object = None) -> None:
        slide, prediction = self._pane.slide, self._pane.prediction
        path = trajectory_of(prediction)
        grid = None if prediction is None else prediction.bag.grid
        order = None if path is None else path.order[: self._pane.view_state.looks].numpy()
        if slide is None or prediction is None or grid is None or path is None:
            self._clear()
            return
        if order is None or not len(order):
            self._clear()
            return
        self._layers.put_lines("path", path_layer(slide, prediction, order))
        last = int(order[-1])
        name = f"look {len(order)} of {len(path.looks)}"
        self._layers.put_lines("look", look_layer(slide, prediction, last, name))
        self._show_fine(slide, path, grid, len(order))
        if self._pane.view_state.follows:
            self._camera.follow(grid, last)

    def _show_fine(self, slide: Slide, path: Trajectory, grid: PatchGrid, step: int) -> None:
        """Show the attention over the sub-patches of the patches looked at."""
        if not self._pane.view_state.finely:
            self._layers.remove("fine")
            return
        values, options, kind = fine_layer(slide, *sub_patches(grid, path, step))
        layer = self._layers.get("fine")
        if layer is None:
            self._layers.put("fine", (values, options, kind)).colorbar.visible = True
        else:
            with at_once(layer):
                layer.data = values
            restyle(layer, {name: options[name] for name in ("scale", "translate")})

    def _clear(self) -> None:
        for role in ("path", "look", "fine"):
            self._layers.remove(role)
