"""Training runs from the options of `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import (
    check_folds,
    check_time_unit,
    check_weights,
    follow,
    remark,
    warn,
)
from napari_wsimil.models import model_class
from napari_wsimil.training.config import RunConfig, read_run
from napari_wsimil.training.dataset import cohort_of
from napari_wsimil.training.options import parsed_options
from napari_wsimil.training.splits import gaps_of, split_of
from napari_wsimil.training.subpatch_provider import closer_for, cost_of
from napari_wsimil.training.tasks import Task, lacking_outcome
from napari_wsimil.workflows.library import new_run
from napari_wsimil.workflows.pipeline import PatchSettings
from napari_wsimil.workflows.slides import encode_missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.cohort.manifest import Manifest

_DEFAULT_MODEL = RunConfig.model_fields["model"].default
_PLACES = ("cohort", "out")


def run_of(config: Path | None, given: Mapping[str, Any]) -> RunConfig:
    """Return the run of a file, or of given options.

    Options that are None are not given.

    Raises
    ------
    ValueError
        If both are given, or neither; or an option would have no effect.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if config is not None:
        if chosen:
            name = next(iter(chosen))
            raise ValueError(f"{_spelled(name)} conflicts with --config: change it in {config}")
        return read_run(config)
    for name in _PLACES:
        if name not in chosen:
            raise ValueError(f"{_spelled(name)} is missing: give it, or a run with --config")
    return _run(chosen)


def _run(chosen: dict[str, Any]) -> RunConfig:
    model, task = chosen.get("model", _DEFAULT_MODEL), Task(chosen.get("task", "classification"))
    check_weights(model, chosen.get("encoder_weights"))
    check_time_unit(task, chosen.get("time_unit"))
    options = parsed_options(model, chosen.get("option", ()))
    settings = {name: value for name, value in chosen.items() if name != "option"}
    return new_run(settings | {"model": model, "options": options})


def prepare(run: RunConfig, given: Mapping[str, Any]) -> Manifest:
    """Extract missing features and print costs; return the cohort.

    Raises
    ------
    ValueError
        If the model cannot do the task, folds are given for a cohort with a split, or the
        training cases are of one class or without any event.
    """
    cohort = cohort_of(run)
    check_folds(cohort, run.task, folds=given["folds"], fold=given["fold"])
    fold = split_of(run, cohort)
    warn(gaps_of(run, cohort, fold))
    if note := lacking_outcome(run.task, cohort):
        remark(note)
    follow(encode_missing(cohort, run.features, PatchSettings(), run.task), "encoding")
    closer = closer_for(model_class(run.model), run.encoder_weights)
    if closer is not None:
        remark(str(cost_of(cohort, run, closer)))
    return cohort


def _spelled(name: str) -> str:
    words = {
        "cohort": "the manifest",
        "record_schema": "--schema",
        "encoder_weights": "--weights",
    }
    return words.get(name, f"--{name.replace('_', '-')}")
