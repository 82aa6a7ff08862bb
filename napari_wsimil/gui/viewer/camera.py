"""Camera: where a viewer looks, in level-0 pixels and µm per screen pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.gui.view_state import UM_AT_ONE, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.slides.patch_grid import PatchGrid

#: Magnifications that a key or a click goes to, each half of the next.
PRESETS = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0)


class Camera:
    """Tells a pane what is shown of it, and shows what the pane wants.

    Parameters
    ----------
    viewer
        Whose camera it is.
    pane
        Its `view` is kept; a `wanted` view or `focus` moves the camera.
    """

    def __init__(self, viewer: ViewerModel, pane: Pane) -> None:
        self._viewer, self._pane = viewer, pane
        self._moving = False
        scene = viewer.scene.camera
        scene.events.zoom.connect(self._tell)
        scene.events.center.connect(self._tell)
        viewer.canvas.events.size.connect(self._tell)
        pane.view_state.events.wanted.connect(self._go)
        pane.view_state.events.focus.connect(self._fly)
        for number, magnification in enumerate(PRESETS, 1):
            viewer.bind_key(f"Alt-{number}", self._preset(magnification), overwrite=True)

    def view(self) -> View:
        """Return what the canvas shows."""
        scene, (height, width), mpp = self._viewer.scene.camera, self._viewer.canvas.size, self._mpp
        y, x = scene.center[-2:]
        step = 1 / scene.zoom  # world units per screen pixel
        slide = self._pane.slide
        known = slide is not None and slide.resolution.known
        return View(
            x / mpp, y / mpp, width * step / mpp, height * step / mpp, step if known else None
        )

    def magnify(self, magnification: float) -> None:
        """Zoom about the center, to the picture an objective of this magnification shows."""
        slide = self._pane.slide
        if slide is not None and slide.resolution.known:
            self._viewer.scene.camera.zoom = magnification / UM_AT_ONE

    @property
    def _mpp(self) -> float:
        slide = self._pane.slide
        return (slide.resolution.mpp if slide else None) or 1.0

    def _tell(self, _: object = None) -> None:
        if not self._moving:
            self._pane.view_state.view = self.view()

    def _go(self, view: View | None) -> None:
        """Show the center of a view at its scale, whatever the size of the canvas."""
        if view is None:
            return
        height, width = self._viewer.canvas.size
        scale = max(view.width / width, view.height / height)
        self._move(view.x, view.y, 1 / (scale * self._mpp))

    def _fly(self, patch: int | None) -> None:
        """Center a patch so that three of it fill the canvas."""
        grid = self._pane.places
        if patch is not None and grid is not None:
            x, y = grid.coords[patch] + grid.patch_size / 2
            height, width = self._viewer.canvas.size
            self._move(x, y, min(height, width) / (3.0 * grid.patch_size * self._mpp))

    def follow(self, grid: PatchGrid, patch: int) -> None:
        """Center a patch unless it is well within the canvas; the zoom stays."""
        x, y = grid.coords[patch] + grid.patch_size / 2
        now = self.view()
        if abs(x - now.x) > now.width / 3 or abs(y - now.y) > now.height / 3:
            self._move(x, y, self._viewer.scene.camera.zoom)

    def _move(self, x: float, y: float, zoom: float) -> None:
        """Center a place in level-0 pixels; what is shown is told once."""
        scene, self._moving = self._viewer.scene.camera, True
        try:
            scene.center = (0.0, y * self._mpp, x * self._mpp)
            scene.zoom = zoom
        finally:
            self._moving = False
        self._tell()

    def _preset(self, magnification: float) -> Callable[[object], None]:
        def go(_: object) -> None:
            self.magnify(magnification)

        return go
