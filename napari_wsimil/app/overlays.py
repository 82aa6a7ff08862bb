"""Overlays: maps, tissue and outlines over a slide, as layer tuples; knows no Qt, no viewer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from skimage.transform import resize

from napari_wsimil.app.slide_layers import LayerTuple, placement, units_of
from napari_wsimil.explain.scale import scaled
from napari_wsimil.space.raster import pile, rasterize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.geometry import Region
    from napari_wsimil.space.grid import PatchGrid
    from napari_wsimil.space.slide import Slide
    from napari_wsimil.space.tissue import Tissue

#: The longer side of the picture that hatches what was not looked at, in pixels.
_HATCH_SIDE = 1024
#: Most patches that are outlined at once.
MOST_OUTLINES = 2000
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
    options = {
        "name": scale.title,
        "colormap": {"name": scale.colormap, "colors": scale.colors()},
        "contrast_limits": scale.limits,
        "interpolation2d": "nearest",
        "blending": "translucent_no_depth",
        "opacity": display.opacity,
        **placement(slide, raster.step, raster.origin),
    }
    return raster.values, options, "image"


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
    height, width = mask.shape
    factor = max(1.0, max(mask.shape) / _HATCH_SIDE)
    shape = (round(height / factor), round(width / factor))
    small = resize(mask, shape, order=0, anti_aliasing=False, preserve_range=True).astype(bool)
    rows, columns = np.indices(shape)
    picture = np.zeros((*shape, 4), np.uint8)
    picture[small & ((rows + columns) % 9 < 3)] = _HATCH_COLOR
    options = {
        "name": "not looked at",
        "rgb": True,
        "interpolation2d": "nearest",
        "opacity": 0.8,
        **placement(slide, tissue.downsample * width / shape[1]),
    }
    return picture, options, "image"


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


def outline_layer(
    slide: Slide, prediction: Prediction, display: Display, view: Region
) -> LayerTuple:
    """Return the patches in `view` (level-0 pixels) as outlines in the colors of the map.

    A line lies wholly within its patch, so neighbors do not hide each other. The data are
    empty if no patch is in view, or more than `MOST_OUTLINES`, which would be slow to draw
    and too dense to read.
    """
    grid = placed(slide, prediction)
    scale = scaled(prediction, display.map_index, display.stretch)
    chosen = _within(grid, view) & np.isfinite(scale.shown(display.threshold))
    if np.count_nonzero(chosen) > MOST_OUTLINES:
        chosen[:] = False
    mpp = slide.resolution.mpp or 1.0
    line = max(1.0, grid.patch_size / 80)
    options = {
        "name": f"{scale.title} (outlines)",
        "vector_style": "line",
        "edge_color": np.repeat(scale.colored()[chosen], 4, axis=0),
        "edge_width": line * mpp,
        "opacity": 1.0,
        **units_of(slide),
    }
    return _frames(grid.coords[chosen], grid.patch_size, line) * mpp, options, "vectors"


def _within(grid: PatchGrid, view: Region) -> NDArray[np.bool_]:
    """Return which patches have a part in `view`."""
    first = np.array([view.x, view.y])
    last = first + np.array([view.width, view.height])
    inside = (grid.coords < last) & (grid.coords + grid.patch_size > first)
    return np.asarray(inside.all(axis=1))


def _frames(corners: NDArray[np.int64], size: int, line: float) -> NDArray[np.float64]:
    """Return (4 N, 2, 2) sides of patches, each as start and way, both (y, x) in level-0 pixels.

    A side begins at one edge of its patch and ends at the line of the next side, so that the
    four lines fill the corners and do not overlap.
    """
    near, far = line / 2 - 0.5, size - line / 2 - 0.5
    first, last = -0.5, size - 0.5
    starts = np.array([[near, first], [first, far], [far, last], [last, near]])
    ways = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]]) * (size - line)
    sides = np.empty((len(corners), 4, 2, 2))
    sides[:, :, 0] = corners[:, None, ::-1] + starts
    sides[:, :, 1] = ways
    return sides.reshape(-1, 2, 2)
