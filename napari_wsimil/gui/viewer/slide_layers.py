"""Layers of a slide as napari wants them; knows no Qt, no viewer and no torch.

napari anchors a layer at the center of its first pixel. A raster whose cells are d
level-0 pixels wide therefore starts (d - 1) / 2 level-0 pixels right of and below its
origin: `placement` is the one place that knows this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.slides.placeholder import is_blank

if TYPE_CHECKING:
    import pint

    from napari_wsimil.slides.slide import Slide

LayerTuple = tuple[Any, dict[str, Any], str]


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
        **units_of(slide),
    }


def slide_name(slide: Slide) -> str:
    """Return what a slide is called on screen: never its file name, which may name a patient."""
    if is_blank(slide):
        return "no slide"
    kind = "synthetic slide" if slide.synthetic else "slide"
    return f"{kind} {slide.fingerprint[:4]}"


def slide_layers(slide: Slide) -> list[LayerTuple]:
    """Return a coarse picture that is never black, and over it the slide itself."""
    pixels, downsample = slide.thumbnail()
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
    return [(np.asarray(pixels), underlay, "image"), (list(slide.display_levels), image, "image")]


def units_of(slide: Slide) -> dict[str, Any]:
    """Return the units and axes of every layer of a slide."""
    return {
        "units": ("um" if slide.resolution.known else "pixel",) * 2,
        "axis_labels": ("y", "x"),
    }


def in_um(unit: pint.Unit) -> float:
    """Return the µm in a unit of length; NaN for any other unit."""
    quantity = 1.0 * unit
    return float(quantity.to("um").magnitude) if quantity.check("[length]") else float("nan")
