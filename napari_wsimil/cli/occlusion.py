"""Results of `effect`: curves, or a removed area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import follow
from napari_wsimil.explain.export import check_ending, export_curves, find_map
from napari_wsimil.explain.occlusion import removed
from napari_wsimil.explain.query import patches_of
from napari_wsimil.workflows.occlusion import curves_job

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.explain.occlusion import Series
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.slides.geometry import Region


def removal_facts(
    model: MILModel, prediction: Prediction, area: Region, outcome: str | None
) -> dict[str, Any]:
    """Return the probability with and without an area's patches."""
    target = _target(prediction, outcome)
    patches = patches_of(prediction, area)
    without = removed(model, prediction, patches)
    before, after = (p.probabilities[target].item() for p in (prediction, without))
    return {
        "probability of": prediction.card.outcomes[target],
        "whole slide": before,
        "without the area": after,
        "change": after - before,
        "patches taken away": len(patches),
        **_shared(prediction),
    }


def curve_facts(
    model: MILModel,
    prediction: Prediction,
    map_name: str | None,
    outcome: str | None,
    out: Path | None,
    seed: int,
) -> dict[str, Any]:
    """Return the areas under the deletion and insertion curves.

    The curves are written to `out` if given.
    """
    if out is not None:
        check_ending(out)
    ranking = prediction.explanations[find_map(prediction, map_name)]
    work = curves_job(model, prediction, ranking, _target(prediction, outcome), seed)
    result = follow(work, "occlusion")
    facts: dict[str, Any] = {
        "probability of": result.outcome,
        "ranked by": result.title,
        "whole slide": result.deletion.probability[0].item(),
        "deletion": _areas(result.deletion),
        "insertion": _areas(result.insertion),
        **_shared(prediction),
    }
    return facts if out is None else facts | {"file": export_curves(result, out)}


def _areas(series: Series) -> dict[str, float]:
    return {"area": series.area, "area, random order": series.random_area}


def _shared(prediction: Prediction) -> dict[str, Any]:
    return {
        "patches": len(prediction.bag),
        "synthetic": prediction.bag.synthetic,
        "warnings": prediction.warnings,
    }


def _target(prediction: Prediction, outcome: str | None) -> int:
    names = prediction.card.outcomes
    if outcome is None:
        return int(prediction.probabilities.argmax())
    if outcome not in names:
        raise ValueError(f"--class {outcome!r} is none of {', '.join(names)}")
    return names.index(outcome)
