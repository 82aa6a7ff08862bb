"""Measures: length and area of drawn shapes; knows no Qt and no viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from scipy.special import ellipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: From here on lengths and areas are in mm and mm².
_MM, _MM2 = 1e3, 1e5


def measure(kind: str, corners: NDArray[np.float64]) -> tuple[float, float | None]:
    """Return length and area of a shape; lines and paths have no area.

    The length of a closed shape is its perimeter. Where a polygon crosses itself, the area is
    that of the parts that are filled.

    Parameters
    ----------
    kind
        napari's name of the shape.
    corners
        (n, 2) vertices; of an ellipse the four corners of its box.
    """
    if kind == "ellipse":
        return _ellipse(corners)
    closed = kind in ("rectangle", "polygon")
    ends = np.roll(corners, -1, axis=0) if closed else corners[1:]
    length = float(np.linalg.norm(ends - corners[: len(ends)], axis=1).sum())
    if not closed:
        return length, None
    area = 0.0 if len(corners) < 3 else shapely.make_valid(shapely.Polygon(corners)).area
    return length, float(area)


def _ellipse(corners: NDArray[np.float64]) -> tuple[float, float]:
    """Return perimeter and area of the ellipse that touches a parallelogram's four sides."""
    halves = np.stack([corners[1] - corners[0], corners[3] - corners[0]]) / 2
    long, short = np.linalg.svd(halves, compute_uv=False)
    area = float(np.pi * long * short)
    return (0.0 if long == 0 else float(4 * long * ellipe(1 - (short / long) ** 2))), area


def measure_words(length: float, area: float | None, um: bool) -> str:
    """Return length and area for people, in µm and µm² or mm and mm²; else in pixels."""
    size = _length(length) if um else f"{length:,.0f} px"
    if area is None:
        return f"L = {size}"
    return f"P = {size}\nA = {_area(area) if um else f'{area:,.0f} px²'}"


def _length(um: float) -> str:
    return f"{um:.1f} µm" if um < _MM else f"{um / 1e3:,.2f} mm"


def _area(um2: float) -> str:
    return f"{um2:,.0f} µm²" if um2 < _MM2 else f"{um2 / 1e6:,.3f} mm²"
