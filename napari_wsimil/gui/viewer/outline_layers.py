"""Outlines over a slide, of patches, of choices and of a path, as layer tuples; knows no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.gui.viewer.overlays import placed
from napari_wsimil.gui.viewer.slide_layers import LayerTuple, units_of
from napari_wsimil.slides.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.slides.geometry import Region
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide

#: Most patches that are outlined at once.
MOST_OUTLINES = 2000
#: Of what a model chose, of a path and its end, and of a drawn area.
CHOSEN, PATH, LOOK, AREA = "#ff5a00", (0.06, 0.06, 0.06), "#ffe000", "#00b4ff"
#: Ways of a path that are told apart, and the opacity of those before.
_TRAIL, _FAINT = 10, 0.12


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
    colors = np.repeat(scale.colored()[chosen], 4, axis=0)
    lines = _frames(grid.coords[chosen], grid.patch_size, line)
    return _lines(slide, f"{scale.title} (outlines)", lines, colors, line * mpp)


def chosen_layer(
    slide: Slide, prediction: Prediction, choices: Sequence[Explanation]
) -> LayerTuple:
    """Return the outlines of what was chosen: patches of a score above 0, region by region.

    Where regions are chosen each has a line around it, where patches are all that touch
    have one.
    """
    grid = placed(slide, prediction)
    index = rasterize(grid, np.zeros(len(grid), np.float32))
    lines = [
        _borders(_members(choice, index.index)) * index.step + np.array([[y, x], [0, 0]])
        for choice in choices
        for x, y in [index.origin]
    ]
    every = np.concatenate([np.empty((0, 2, 2)), *lines])
    every[:, 0] -= 0.5
    return _lines(slide, " and ".join(prediction.title(one) for one in choices), every, CHOSEN)


def _members(choice: Explanation, index: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the number of the chosen unit that each cell belongs to, -1 for none.

    Chosen patches are all of one unit, so that no line divides them.
    """
    scores = choice.per_patch().numpy()
    unit = np.zeros(len(scores), np.int64) if choice.index is None else choice.index.numpy()
    return np.append(np.where(scores > 0, unit, -1), -1)[index]


def _borders(member: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n, 2, 2) lines, each as start and way (row, column) in cells, where units meet."""
    framed = np.pad(member, 1, constant_values=-1)
    across = _runs(framed[1:, 1:-1] != framed[:-1, 1:-1])
    down = _runs((framed[1:-1, 1:] != framed[1:-1, :-1]).T)
    return np.concatenate([across, down[:, :, ::-1]])


def _runs(edges: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (n, 2, 2) start and way of each unbroken run along the rows of `edges`."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(steps == 1)
    stop = np.nonzero(steps == -1)[1]
    way = np.stack([np.zeros_like(start), stop - start], axis=1)
    return np.stack([np.stack([row, start], axis=1), way], axis=1).astype(np.float64)


def path_layer(slide: Slide, prediction: Prediction, order: NDArray[np.int64]) -> LayerTuple:
    """Return the way from patch to patch in the (T,) order in which they were looked at.

    It fades: the last `_TRAIL` ways are told apart, older ones are faint.
    """
    grid = placed(slide, prediction)
    centers = grid.coords[order][:, ::-1] + (grid.patch_size - 1) / 2
    ways = np.diff(centers, axis=0)
    colors = np.tile([*PATH, 1.0], (len(ways), 1))
    colors[:, 3] = np.clip(1 - np.arange(len(ways))[::-1] / _TRAIL, _FAINT, 1)
    return _lines(slide, "path of looks", np.stack([centers[:-1], ways], axis=1), colors)


def look_layer(slide: Slide, prediction: Prediction, patch: int, name: str) -> LayerTuple:
    """Return a frame around one patch."""
    grid = placed(slide, prediction)
    line = grid.patch_size / 16
    frame = _frames(grid.coords[[patch]] - int(line), grid.patch_size + 2 * int(line), line)
    return _lines(slide, name, frame, LOOK)


def area_layer(slide: Slide, area: Region) -> LayerTuple:
    """Return the sides of an area in level-0 pixels."""
    left, top = area.x - 0.5, area.y - 0.5
    right, bottom = left + area.width, top + area.height
    across, down = (0, area.width), (area.height, 0)
    sides = [
        [(top, left), across],
        [(bottom, left), across],
        [(top, left), down],
        [(top, right), down],
    ]
    return _lines(slide, "picked", np.array(sides, float), AREA)


def _lines(
    slide: Slide,
    name: str,
    lines: NDArray[np.float64],
    color: Any,
    width: float = 1.0,
) -> LayerTuple:
    """Return (n, 2, 2) lines in level-0 pixels, `width` in world units."""
    options = {
        "name": name,
        "vector_style": "line",
        "edge_color": color,
        "edge_width": width,
        "opacity": 1.0,
        **units_of(slide),
    }
    return lines * (slide.resolution.mpp or 1.0), options, "vectors"


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
