"""Picking: a click names a patch, a drag with Shift an area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.app.outline_layers import area_layer
from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_wsimil.app.layers import Layers
    from napari_wsimil.app.lookup import Lookup
    from napari_wsimil.app.session import Pane

#: Screen pixels that a click may wander.
_STILL = 4


class Picking:
    """Sets `picked` and `area` of a pane from the mouse.

    Parameters
    ----------
    viewer, layers
        Where the mouse is, and where an area that is being drawn is shown.
    pane
        What is set.
    lookup
        Returns what finds patches, None while there are none.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Layers,
        pane: Pane,
        lookup: Callable[[], Lookup | None],
    ) -> None:
        self._viewer, self._layers, self._pane, self._lookup = viewer, layers, pane, lookup
        viewer.mouse_drag_callbacks.append(self._press)

    def pick(self, x: float, y: float) -> None:
        """Take the patch at a place in level-0 pixels for picked and asked about."""
        lookup = self._lookup()
        if lookup is None:
            return
        patch = lookup.at(x, y)
        self._pane.picked = patch
        if patch is None:
            return
        x_corner, y_corner = lookup.grid.coords[patch].tolist()
        side = lookup.grid.patch_size
        self._pane.area = Region(x_corner, y_corner, side, side)

    def _press(self, _: object, event: Any) -> Iterator[None]:
        if event.button != 1 or self._pane.slide is None or not self._free():
            return
        draws = "Shift" in event.modifiers
        start, at, moved, drawn = self._place(event), event.pos, False, None
        camera = self._viewer.scene.camera
        pans, camera.mouse_pan = camera.mouse_pan, camera.mouse_pan and not draws
        try:
            yield
            while event.type == "mouse_move":
                moved = moved or max(abs(event.pos - at)) > _STILL
                if draws and moved:
                    drawn = _between(start, self._place(event))
                    self._layers.put_lines("query", area_layer(self._pane.slide, drawn))
                yield
        finally:
            camera.mouse_pan = pans
        if drawn is not None:
            self._pane.picked = None
            self._pane.area = drawn
        elif not moved:
            self.pick(*start)

    def _free(self) -> bool:
        """Return whether the mouse is not busy with a layer of the user's."""
        active = self._viewer.layers.selection.active
        return active is None or str(active.mode) == "pan_zoom"

    def _place(self, event: Any) -> tuple[float, float]:
        slide = self._pane.slide
        mpp = (slide.resolution.mpp if slide else None) or 1.0
        y, x = event.position[-2:]
        return x / mpp, y / mpp


def _between(one: tuple[float, float], other: tuple[float, float]) -> Region:
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(one, other, strict=True))
    x, y = round(left), round(top)
    return Region(x, y, max(1, round(right) - x), max(1, round(bottom) - y))
