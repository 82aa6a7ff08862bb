"""Overlays: maps and tissue over a slide, as layer tuples; knows no Qt, no viewer."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.gui.viewer.slide_layers import LayerTuple, placement
from napari_wsimil.slides.raster import pile, rasterize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue

#: The longer side of the picture that hatches what was not looked at, in pixels.
_HATCH_SIDE = 1024
#: Cells along a patch, and most cells in all, of a map that is smoothed.
_SMOOTH_CELLS, _MOST_SMOOTH = 8, 2**22
#: Where the color bar of sub-patches ends, in × uniform within their patch.
_FINE_TOP = 4.0
_HATCH_COLOR = (40, 40, 40, 190)
_TISSUE_COLOR = (0, 114, 178, 255)


def map_layer(slide: Slide, prediction: Prediction, display: Display) -> LayerTuple:
    """Return the shown map as one image over its slide, clear where no patch is.

    Raises
    ------
    ValueError
        The prediction's patches have no places, or are of another slide.
    """
    grid = placed(slide, prediction)
    scale = scaled(prediction, display.map_index, display.stretch)
    raster = rasterize(grid, scale.shown(display.threshold))
    values, cell = raster.values, float(raster.step)
    if display.smooth:
        values, factor = smoothed(values, grid.stride / cell)
        cell /= factor
    options = {
        "name": scale.title,
        "colormap": {"name": scale.colormap, "colors": scale.colors()},
        "contrast_limits": scale.limits,
        "interpolation2d": "nearest",
        "blending": "translucent_no_depth",
        "opacity": display.opacity,
        **placement(slide, cell, raster.origin),
    }
    return values, options, "image"


def fine_layer(slide: Slide, grid: PatchGrid, values: NDArray[np.float32]) -> LayerTuple:
    """Return attention over sub-patches, × uniform within their patch, as one image."""
    raster = rasterize(grid, values)
    options = {
        "name": "inside looks, × uniform within the patch",
        "colormap": "viridis",
        "contrast_limits": (0.0, _FINE_TOP),
        "interpolation2d": "nearest",
        "blending": "translucent_no_depth",
        "opacity": 0.7,
        **placement(slide, float(raster.step), raster.origin),
    }
    return raster.values, options, "image"


def smoothed(values: NDArray[np.float32], stride: float) -> tuple[NDArray[np.float32], int]:
    """Return a raster smoothed for the eye, and how many cells were made of one along a side.

    A Gaussian of half a stride between patches (given in cells), over cells that have a
    value alone: what has none stays clear, to the edge of the cell.
    """
    most = math.isqrt(_MOST_SMOOTH // values.size) if values.size < _MOST_SMOOTH else 1
    factor = max(1, min(math.ceil(_SMOOTH_CELLS / stride), most))
    fine = values.repeat(factor, axis=0).repeat(factor, axis=1)
    known = np.isfinite(fine)
    spread = [
        gaussian_filter(part.astype(np.float32), stride * factor / 2, truncate=2.0)
        for part in (np.where(known, fine, 0), known)
    ]
    weight = np.maximum(spread[1], np.finfo(np.float32).tiny)
    return np.where(known, spread[0] / weight, np.float32(np.nan)).astype(np.float32), factor


def placed(slide: Slide, prediction: Prediction) -> PatchGrid:
    """Return the grid of a prediction after proof that it lies on `slide`."""
    bag = prediction.bag
    if bag.grid is None:
        raise ValueError("these features have no coordinates, so their map has no place")
    if bag.slide and bag.slide != slide.fingerprint:
        raise ValueError("the prediction is of another slide; its map is not drawn on this one")
    return bag.grid


def hatch_layer(slide: Slide, tissue: Tissue, grid: PatchGrid) -> LayerTuple:
    """Return a hatching of the tissue that no patch covers: it was not looked at."""
    mask = tissue.mask & ~covered(tissue, grid)
    step = max(1.0, max(mask.shape) / _HATCH_SIDE)
    down, across = (_middles(side, step) for side in mask.shape)
    small = mask[down[:, None], across]
    rows, columns = np.indices(small.shape)
    picture = np.zeros((*small.shape, 4), np.uint8)
    picture[small & ((rows + columns) % 9 < 3)] = _HATCH_COLOR
    options = {
        "name": "not looked at",
        "rgb": True,
        "interpolation2d": "nearest",
        "opacity": 0.8,
        **placement(slide, tissue.downsample * step),
    }
    return picture, options, "image"


def _middles(side: int, step: float) -> NDArray[np.int64]:
    """Return one cell per step, the middle one."""
    middles = (np.arange(math.ceil(side / step - 1e-6)) + 0.5) * step
    return np.minimum(middles.astype(np.int64), side - 1)


def tissue_layer(slide: Slide, tissue: Tissue) -> LayerTuple:
    """Return the border of the tissue, three cells of its mask wide, the rest clear."""
    border = _border(tissue.mask)
    picture = np.zeros((*border.shape, 4), np.uint8)
    picture[border] = _TISSUE_COLOR
    options = {
        "name": "tissue",
        "rgb": True,
        "interpolation2d": "nearest",
        **placement(slide, tissue.downsample),
    }
    return picture, options, "image"


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells that touch one of the other kind, by a side, and those at the rim."""
    framed = np.pad(mask, 1)
    center = framed[1:-1, 1:-1]
    sides = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    return functools.reduce(np.logical_or, (side != center for side in sides))


def covered(tissue: Tissue, grid: PatchGrid) -> NDArray[np.bool_]:
    """Return where patches lie, in the cells of the tissue's mask."""
    starts = np.floor(grid.coords / tissue.downsample).astype(int)
    stops = np.ceil((grid.coords + grid.patch_size) / tissue.downsample).astype(int)
    height, width = tissue.mask.shape
    columns, rows = np.clip([starts, stops], 0, (width, height)).T
    return pile(np.ones(len(grid), np.int32), (height, width), rows, columns) > 0
