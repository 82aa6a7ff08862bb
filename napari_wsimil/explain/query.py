"""Queries: maps for one patch or an area.

Some models, such as Querent and LongMIL, can show the attention *from* a patch. A query takes
the patches in an area of the slide and returns the prediction with maps for those patches.
For example, `ask(model, prediction, Region(20480, 9216, 1, 1))` returns the maps for the
patch at this level-0 pixel.
"""

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
    """Return a prediction with maps for an area's patches.

    Parameters
    ----------
    model
        Model of the prediction.
    prediction
        Prediction for the whole slide.
    area
        In level-0 pixels; a single pixel selects the patches that contain it.

    Raises
    ------
    ValueError
        If the model supports no queries, the bag has no coordinates, or no patch is in the area.
    """
    return replace(
        prediction,
        explanations=query_maps(
            model, prediction.bag, patches_of(prediction, area), prediction.card.model
        ),
    )


def query_maps(model: MILModel, bag: Bag, index: Tensor, name: str) -> tuple[Explanation, ...]:
    """Return the maps for (Q,) patch indices of a prediction.

    Raises
    ------
    ValueError
        If the model supports no queries.
    """
    with torch.inference_mode():
        maps = model.eval().explain(bag, index)
    if not maps:
        raise ValueError(f"{name} supports no queries: use the maps of the whole slide")
    return maps


@dataclass(frozen=True)
class UnitTable:
    """Regions selected by a query, with their values.

    Attributes
    ----------
    units
        Number of each region, counted from 0, in descending order of the last value.
    patches
        One patch of each region.
    titles
        Titles of the region maps.
    values
        One row per region, one number per map.
    """

    units: tuple[int, ...] = ()
    patches: tuple[int, ...] = ()
    titles: tuple[str, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()


def unit_table(maps: Sequence[Explanation]) -> UnitTable:
    """Return the regions selected in a query's maps, or none."""
    choices = [map_ for map_ in maps if map_.outlined and map_.index is not None]
    columns = [map_ for map_ in maps if map_.index is not None and not map_.outlined]
    if not choices or not columns:
        return UnitTable()
    chosen = torch.stack([map_.scores > 0 for map_ in choices]).any(dim=0).nonzero()[:, 0]
    units = chosen[columns[-1].scores[chosen].argsort(descending=True, stable=True)].tolist()
    index = choices[0].index
    assert index is not None
    return UnitTable(
        units=tuple(units),
        patches=tuple(int((index == unit).nonzero()[0]) for unit in units),
        titles=tuple(map_.name for map_ in columns),
        values=tuple(tuple(map_.scores[unit].item() for map_ in columns) for unit in units),
    )


def patches_of(prediction: Prediction, area: Region) -> Tensor:
    """Return (Q,) int64: patches of a prediction in an area.

    Raises
    ------
    ValueError
        If no patch overlaps the area, or the bag has no coordinates.
    """
    return patches_in(_grid(prediction), area)


def patches_in(grid: PatchGrid, area: Region) -> Tensor:
    """Return (Q,) int64: patches that overlap an area.

    Raises
    ------
    ValueError
        If no patch overlaps the area.
    """
    low = np.array([area.x, area.y])
    high = low + np.array([area.width, area.height])
    inside = ((grid.coords < high) & (grid.coords + grid.patch_size > low)).all(axis=1)
    if not inside.any():
        left, top = grid.coords.min(axis=0)
        right, bottom = grid.coords.max(axis=0) + grid.patch_size
        raise ValueError(
            f"no patch overlaps the {area.width} by {area.height} level-0 pixels at "
            f"({area.x}, {area.y}); patches extend from ({left}, {top}) to ({right}, {bottom})"
        )
    return torch.from_numpy(np.flatnonzero(inside))


def summaries(prediction: Prediction) -> dict[str, dict[str, object]]:
    """Return kind, limits and highest patch of each map title.

    "highest at" is the (x, y) of a patch in level-0 pixels, None for a bag without coordinates.
    Patches without a value (NaN) do not count. For attention, "effective" is the effective number
    of its "units", from the entropy.
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
    spread = concentration(map_)
    return {"effective": spread.effective, "units": spread.units}


def _grid(prediction: Prediction) -> PatchGrid:
    if prediction.bag.grid is None:
        raise ValueError("these features have no coordinates, so no area can be queried")
    return prediction.bag.grid
