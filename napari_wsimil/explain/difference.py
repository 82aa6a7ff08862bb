"""Difference: two maps of the same patches, one less the other, in the unit they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.movement import ABSOLUTE, LEVEL_LIMIT
from napari_wsimil.explain.scale import scaled
from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.explain.scale import Scale

NAME = "difference"


def difference(one: Prediction, index: int, other: Prediction, other_index: int) -> Explanation:
    """Return map `index` of a prediction less a map of another, or the same, prediction.

    Where either map says nothing the difference says nothing.

    Raises
    ------
    ValueError
        If they are of different patches, or have different units.
    """
    a, b = scaled(one, index), scaled(other, other_index)
    if not _same_patches(one, other):
        raise ValueError("the two maps are of different patches: they have no difference")
    if a.unit != b.unit:
        raise ValueError(
            f"{a.title} is in {a.unit}, {b.title} in {b.unit}: there is no difference between them"
        )
    return Explanation(
        NAME,
        ExplanationKind.SCORE,
        torch.from_numpy(a.values - b.values),
        absent="one of the two maps says nothing here",
        unit=f"{a.unit}: {_name(one, other, a)} less {_name(other, one, b)}",
        limit=_limit(one.explanations[index], other.explanations[other_index]),
    )


def _limit(a: Explanation, b: Explanation) -> float | None:
    """Return the fixed end of the color bar where both maps are absolute."""
    return LEVEL_LIMIT if a.kind in ABSOLUTE and b.kind in ABSOLUTE else None


def _name(of: Prediction, beside: Prediction, scale: Scale) -> str:
    """Return what a map is called, with its model where the two are of different ones."""
    if of.card is beside.card:
        return scale.title
    weights = f" ({of.card.weights[:4]})" if of.card.model == beside.card.model else ""
    return f"{scale.title} of {of.card.model}{weights}"


def _same_patches(one: Prediction, other: Prediction) -> bool:
    if one.bag is other.bag:
        return True
    grids = one.bag.grid, other.bag.grid
    if grids[0] is None or grids[1] is None or one.bag.slide != other.bag.slide:
        return False
    same_size = grids[0].patch_size == grids[1].patch_size
    return same_size and np.array_equal(grids[0].coords, grids[1].coords)
