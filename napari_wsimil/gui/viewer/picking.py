"""Picking: a click names a patch, a drag with Shift an area."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.gui.viewer.outline_layers import area_layer
from napari_wsimil.slides.geometry import Region
from napari_wsimil.slides.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.viewer.layers import Layers
    from napari_wsimil.slides.patch_grid import PatchGrid

#: Most lookups that are kept: the map on the main canvas and one of another model's patches.
_RECENT = 2


class Lookup:
    """Finds patches of one grid by place.

    Parameters
    ----------
    grid
        Whose patches are found.
    """

    def __init__(self, grid: PatchGrid) -> None:
        self.grid = grid
        self._raster = rasterize(grid, np.zeros(len(grid), np.float32))

    def at(self, x: float, y: float) -> int | None:
        """Return the patch at a place in level-0 pixels, the upper one where several are.

        Pixel 0 reaches from -0.5 to 0.5.
        """
        raster = self._raster
        column = math.floor((x + 0.5 - raster.origin[0]) / raster.step)
        row = math.floor((y + 0.5 - raster.origin[1]) / raster.step)
        inside = 0 <= row < raster.index.shape[0] and 0 <= column < raster.index.shape[1]
        patch = int(raster.index[row, column]) if inside else -1
        return None if patch < 0 else patch


class Lookups:
    """Keeps the lookups of the grids used last."""

    def __init__(self) -> None:
        self._recent: list[Lookup] = []

    def of(self, grid: PatchGrid) -> Lookup:
        """Return the lookup of a grid, made at its first use."""
        lookup = next((one for one in self._recent if one.grid is grid), None) or Lookup(grid)
        self._recent = [lookup, *(one for one in self._recent if one is not lookup)][:_RECENT]
        return lookup


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
        if lookup is not None:
            self._pane.pick(lookup.at(x, y))

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
            self._pane.view_state.picked = None
            self._pane.view_state.area = drawn
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
