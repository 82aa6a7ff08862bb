"""Results of `effect` for the command line: curves, and a slide without an area."""

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
    model: MILModel, found: Prediction, area: Region, outcome: str | None
) -> dict[str, Any]:
    """Return what a slide's probability is with and without the patches of an area."""
    target = _target(found, outcome)
    patches = patches_of(found, area)
    without = removed(model, found, patches)
    before, after = (p.probabilities[target].item() for p in (found, without))
    return {
        "probability of": found.card.outcomes[target],
        "whole slide": before,
        "without the area": after,
        "change": after - before,
        "patches taken away": len(patches),
        **_shared(found),
    }


def curve_facts(
    model: MILModel,
    found: Prediction,
    map_name: str | None,
    outcome: str | None,
    out: Path | None,
    seed: int,
) -> dict[str, Any]:
    """Return the areas under deletion and insertion curves, which are written to `out`."""
    if out is not None:
        check_ending(out)
    ranking = found.explanations[find_map(found, map_name)]
    work = curves_job(model, found, ranking, _target(found, outcome), seed)
    made = follow(work, "occlusion")
    facts: dict[str, Any] = {
        "probability of": made.outcome,
        "ranked by": made.title,
        "whole slide": made.deletion.probability[0].item(),
        "deletion": _areas(made.deletion),
        "insertion": _areas(made.insertion),
        **_shared(found),
    }
    return facts if out is None else facts | {"file": export_curves(made, out)}


def _areas(series: Series) -> dict[str, float]:
    return {"area": series.area, "area, random order": series.random_area}


def _shared(found: Prediction) -> dict[str, Any]:
    return {
        "patches": len(found.bag),
        "synthetic": found.bag.synthetic,
        "warnings": found.warnings,
    }


def _target(found: Prediction, outcome: str | None) -> int:
    names = found.card.outcomes
    if outcome is None:
        return int(found.probabilities.argmax())
    if outcome not in names:
        raise ValueError(f"--class {outcome!r} is none of {', '.join(names)}")
    return names.index(outcome)
