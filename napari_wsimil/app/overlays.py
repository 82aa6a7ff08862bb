"""Layer tuples: a slide and its maps as napari wants them; knows no Qt and no viewer.

napari anchors a layer at the center of its first pixel. A raster whose cells are d
level-0 pixels wide therefore starts (d - 1) / 2 level-0 pixels right of and below its
origin: `placement` is the one place that knows this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.transform import resize

from napari_wsimil.app.scale import scaled
from napari_wsimil.space.raster import rasterize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.geometry import Region
    from napari_wsimil.space.grid import PatchGrid
    from napari_wsimil.space.slide import Slide
    from napari_wsimil.space.tissue import Tissue

LayerTuple = tuple[Any, dict[str, Any], str]

#: The longer side of the picture that lies under a slide while its tiles load, in pixels.
UNDERLAY_SIDE = 2048
#: The longer side of the picture that hatches what was not looked at, in pixels.
_HATCH_SIDE = 1024
_HATCH_COLOR = (40, 40, 40, 190)
_TISSUE_COLOR = (0, 114, 178, 255)


def placement(
    slide: Slide, cell: float, origin: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """Return scale, translate and units that put a raster on its slide.

    Parameters
    ----------
    cell
        Side of a raster cell in level-0 pixels.
    origin
        (x, y) of the raster's top-left corner in level-0 pixels.
    """
    mpp = slide.resolution.mpp or 1.0
    shift = (cell - 1) / 2
    return {
        "scale": (cell * mpp, cell * mpp),
        "translate": ((origin[1] + shift) * mpp, (origin[0] + shift) * mpp),
        **_units(slide),
    }


def slide_name(slide: Slide) -> str:
    """Return what a slide is called on screen: never its file name, which may name a patient."""
    kind = "synthetic slide" if slide.synthetic else "slide"
    return f"{kind} {slide.fingerprint[:4]}"


def slide_layers(slide: Slide) -> list[LayerTuple]:
    """Return a coarse picture that is never black, and over it the slide itself."""
    pixels, downsample = slide.thumbnail(UNDERLAY_SIDE)
    name = slide_name(slide)
    shared: dict[str, Any] = {
        "rgb": True,
        "contrast_limits": (0, 255),
        "metadata": {"slide": slide},
    }
    underlay = {
        "name": f"{name} (overview)",
        "interpolation2d": "linear",
        **placement(slide, downsample),
        **shared,
    }
    image = {"name": name, "multiscale": True, **placement(slide, 1.0), **shared}
    return [(np.asarray(pixels), underlay, "image"), (list(slide.arrays), image, "image")]


def map_layer(slide: Slide, prediction: Prediction, display: Display) -> LayerTuple:
    """Return the shown map as one image over its slide, clear where no patch is.

    Raises
    ------
    ValueError
        The prediction's patches have no places, or are of another slide.
    """
    grid = placed(slide, prediction)
    scale = scaled(prediction, display)
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
    border = binary_dilation(tissue.mask) & ~binary_erosion(tissue.mask)
    picture = np.zeros((*border.shape, 4), np.uint8)
    picture[border] = _TISSUE_COLOR
    options = {
        "name": "tissue",
        "rgb": True,
        "interpolation2d": "nearest",
        **placement(slide, tissue.downsample),
    }
    return picture, options, "image"


def covered(tissue: Tissue, grid: PatchGrid) -> NDArray[np.bool_]:
    """Return where patches lie, in the cells of the tissue's mask."""
    out = np.zeros(tissue.mask.shape, bool)
    starts = np.floor(grid.coords / tissue.downsample).astype(int)
    stops = np.ceil((grid.coords + grid.patch_size) / tissue.downsample).astype(int)
    for (x0, y0), (x1, y1) in zip(starts, stops, strict=True):
        out[max(0, y0) : y1, max(0, x0) : x1] = True
    return out


def outline_layer(
    slide: Slide, prediction: Prediction, display: Display, view: Region
) -> LayerTuple:
    """Return the patches in `view` (level-0 pixels) as outlines in the colors of the map.

    A line lies wholly within its patch, so neighbors do not hide each other.
    """
    grid = placed(slide, prediction)
    scale = scaled(prediction, display)
    corners = grid.coords
    inside = (
        (corners[:, 0] < view.x + view.width)
        & (corners[:, 0] + grid.patch_size > view.x)
        & (corners[:, 1] < view.y + view.height)
        & (corners[:, 1] + grid.patch_size > view.y)
        & np.isfinite(scale.shown(display.threshold))
    )
    mpp = slide.resolution.mpp or 1.0
    line = max(1.0, grid.patch_size / 80)
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * (grid.patch_size - line) + line / 2
    places = (corners[inside][:, None, ::-1] + square - 0.5) * mpp
    options = {
        "name": f"{scale.title} (outlines)",
        "shape_type": "polygon",
        "face_color": "transparent",
        "edge_color": scale.colored()[inside],
        "edge_width": line * mpp,
        "opacity": 1.0,
        **_units(slide),
    }
    return list(places), options, "shapes"


def _units(slide: Slide) -> dict[str, Any]:
    return {
        "units": ("um" if slide.resolution.known else "pixel",) * 2,
        "axis_labels": ("y", "x"),
    }
