"""Lookup: which patch lies at a place of a slide; knows no Qt and no viewer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.slides.raster import rasterize

if TYPE_CHECKING:
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
