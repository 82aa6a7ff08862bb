"""Words: what the window says of a map, beside it and of the patch under the cursor."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.explain.scale import scaled

if TYPE_CHECKING:
    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.slide import Slide

#: Letters in a line of the words on the canvas, to leave room for the color bar.
_LINE = 48


def caption(
    slide: Slide | None, prediction: Prediction | None, display: Display, stale: str = ""
) -> str:
    """Return what a map's colors measure, what they do not, and what to beware of."""
    words = ["SYNTHETIC"] if slide is not None and slide.synthetic else []
    if prediction is not None:
        scale = scaled(prediction, display.map_index, display.stretch)
        smooth = ", smoothed for the eye" if display.smooth else ""
        words += [f"OUT OF DATE: {stale}"] if stale else []
        words += [f"{scale.title}, {scale.unit}{smooth}", scale.caveat, *prediction.warnings]
    return "\n".join(line for word in words for line in textwrap.wrap(word, _LINE))


def reading(prediction: Prediction, display: Display, patch: int | None) -> str:
    """Return number, value and rank of a patch in the shown map."""
    if patch is None:
        return "not looked at"
    scale = scaled(prediction, display.map_index, display.stretch)
    number = f"patch {patch + 1} of {len(prediction.bag)}"
    if np.isnan(scale.values[patch]):
        return f"{number} · {scale.title}: {scale.absent}"
    rank = 1 + int((scale.values > scale.values[patch]).sum())
    value = f"{scale.values[patch]:.3g} {scale.unit}"
    return f"{number} · {scale.title} {value} · rank {rank}"
