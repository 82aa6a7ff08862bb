"""Query: what a model answers when asked about one patch or an area of a slide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.statistics import concentration
from napari_wsimil.models.base import ExplanationKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.slides.geometry import Region
    from napari_wsimil.slides.patch_grid import PatchGrid


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
    return replace(
        prediction,
        explanations=query_maps(
            model, prediction.bag, patches_of(prediction, area), prediction.card.model
        ),
    )


def query_maps(model: MILModel, bag: Bag, index: Tensor, name: str) -> tuple[Explanation, ...]:
    """Return the maps of a model for the patches at (Q,) indices of a bag.

    `name` is the model's, for the error.

    Raises
    ------
    ValueError
        If the model answers no queries.
    """
    with torch.inference_mode():
        maps = model.eval().explain(bag, index)
    if not maps:
        raise ValueError(f"{name} answers no queries: ask about the whole slide instead")
    return maps


@dataclass(frozen=True)
class UnitTable:
    """The regions that a query chose, and what each map by region says of them.

    Attributes
    ----------
    units
        Number of each region, counted from 0, the one of the highest last value first.
    patches
        A patch of each.
    titles
        Of the maps by region.
    values
        A row per region, a number per map.
    """

    units: tuple[int, ...] = ()
    patches: tuple[int, ...] = ()
    titles: tuple[str, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()


def unit_table(maps: Sequence[Explanation]) -> UnitTable:
    """Return the regions chosen in an answer, empty where it chooses no regions."""
    choices = [one for one in maps if one.outlined and one.index is not None]
    columns = [one for one in maps if one.index is not None and not one.outlined]
    if not choices or not columns:
        return UnitTable()
    chosen = torch.stack([one.scores > 0 for one in choices]).any(dim=0).nonzero()[:, 0]
    units = chosen[columns[-1].scores[chosen].argsort(descending=True, stable=True)].tolist()
    index = choices[0].index
    assert index is not None
    return UnitTable(
        units=tuple(units),
        patches=tuple(int((index == unit).nonzero()[0]) for unit in units),
        titles=tuple(one.name for one in columns),
        values=tuple(tuple(one.scores[unit].item() for one in columns) for unit in units),
    )


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
    Patches that a map says nothing of do not count. "effective" is on how many of "units"
    attention lies, by its entropy.
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
        "highest at": None if grid is None or grid.made_up else grid.coords[top].tolist(),
        **_concentration(map_),
    }


def _concentration(map_: Explanation) -> dict[str, float]:
    if map_.kind is not ExplanationKind.ATTENTION:
        return {}
    found = concentration(map_)
    return {"effective": found.effective, "units": found.units}


def _grid(prediction: Prediction) -> PatchGrid:
    if prediction.bag.grid is None:
        raise ValueError("these features have no coordinates, so no place can be asked about")
    return prediction.bag.grid
