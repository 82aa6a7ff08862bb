"""Words: what the window says of a map, beside it and of the patch under the cursor."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from napari_wsimil.explain.scale import scaled

if TYPE_CHECKING:
    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.raster import Raster
    from napari_wsimil.space.slide import Slide

#: Letters in a line of the words on the canvas, to leave room for the color bar.
_LINE = 48


def caption(slide: Slide | None, prediction: Prediction | None, display: Display) -> str:
    """Return what a map's colors measure, what they do not, and what to beware of."""
    words = ["SYNTHETIC"] if slide is not None and slide.synthetic else []
    if prediction is not None:
        scale = scaled(prediction, display.map_index, display.stretch)
        words += [f"{scale.title}, {scale.unit}", scale.caveat, *prediction.warnings]
    return "\n".join(line for word in words for line in textwrap.wrap(word, _LINE))


def reading(prediction: Prediction, display: Display, raster: Raster, x: float, y: float) -> str:
    """Return number, value and rank of the patch at a place in level-0 pixels.

    Parameters
    ----------
    raster
        Of the prediction's grid; its `index` says which patch a cell belongs to.
    x, y
        Center of the place, where pixel 0 reaches from -0.5 to 0.5.
    """
    column = math.floor((x + 0.5 - raster.origin[0]) / raster.step)
    row = math.floor((y + 0.5 - raster.origin[1]) / raster.step)
    inside = 0 <= row < raster.index.shape[0] and 0 <= column < raster.index.shape[1]
    patch = int(raster.index[row, column]) if inside else -1
    if patch < 0:
        return "not looked at"
    scale = scaled(prediction, display.map_index, display.stretch)
    rank = 1 + int((scale.values > scale.values[patch]).sum())
    value = f"{scale.values[patch]:.3g} {scale.unit}"
    return f"patch {patch + 1} of {len(prediction.bag)} · {scale.title} {value} · rank {rank}"
