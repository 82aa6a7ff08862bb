"""Query: what a model answers when asked about one patch or an area of a slide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.space.geometry import Region
    from napari_wsimil.space.grid import PatchGrid


def ask(model: MILModel, prediction: Prediction, area: Region) -> Prediction:
    """Return a prediction whose maps answer for the patches in an area.

    Parameters
    ----------
    model
        The one the prediction is of.
    prediction
        What it said of the whole slide.
    area
        In level-0 pixels; a single pixel asks about the patches it lies in.

    Raises
    ------
    ValueError
        If the model answers no queries, the bag has no places, or no patch is there.
    """
    index = patches_of(prediction, area)
    with torch.inference_mode():
        maps = model.eval().explain(prediction.bag, index)
    if not maps:
        raise ValueError(
            f"{prediction.card.model} answers no queries: ask about the whole slide instead"
        )
    return replace(prediction, explanations=maps)


def patches_of(prediction: Prediction, area: Region) -> Tensor:
    """Return (Q,) int64, the patches of a prediction that have a pixel in an area.

    Raises
    ------
    ValueError
        If there is none, or the bag has no places.
    """
    return patches_in(_grid(prediction), area)


def patches_in(grid: PatchGrid, area: Region) -> Tensor:
    """Return (Q,) int64, the patches that have a pixel in common with an area.

    Raises
    ------
    ValueError
        If there is none.
    """
    low = np.array([area.x, area.y])
    high = low + np.array([area.width, area.height])
    inside = ((grid.coords < high) & (grid.coords + grid.patch_size > low)).all(axis=1)
    if not inside.any():
        left, top = grid.coords.min(axis=0)
        right, bottom = grid.coords.max(axis=0) + grid.patch_size
        raise ValueError(
            f"no patch lies in the {area.width} by {area.height} level-0 pixels at "
            f"({area.x}, {area.y}); patches lie between ({left}, {top}) and ({right}, {bottom})"
        )
    return torch.from_numpy(np.flatnonzero(inside))


def summaries(prediction: Prediction) -> dict[str, dict[str, object]]:
    """Return, for each map by its title, its kind, its limits and where it is highest.

    "highest at" is the (x, y) of a patch in level-0 pixels, None in a bag without places.
    Patches that a map says nothing of do not count.
    """
    return {prediction.title(map_): _summary(prediction, map_) for map_ in prediction.explanations}


def _summary(prediction: Prediction, map_: Explanation) -> dict[str, object]:
    scores = map_.per_patch()
    known = scores[~scores.isnan()]
    if len(known) == 0:
        return {"kind": str(map_.kind), "patches": 0}
    grid = prediction.bag.grid
    top = int(scores.nan_to_num(-torch.inf).argmax())
    return {
        "kind": str(map_.kind),
        "patches": len(known),
        "lowest": known.min().item(),
        "highest": known.max().item(),
        "highest at": None if grid is None else grid.coords[top].tolist(),
    }


def _grid(prediction: Prediction) -> PatchGrid:
    if prediction.bag.grid is None:
        raise ValueError("these features have no coordinates, so no place can be asked about")
    return prediction.bag.grid
