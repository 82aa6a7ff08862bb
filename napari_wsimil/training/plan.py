"""Plan: which model learns what, on which patients, and how."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_wsimil.models import MODELS, model_class
from napari_wsimil.models.base import Need
from napari_wsimil.training.config import FitConfig, FoldRule
from napari_wsimil.training.tasks import Task, check_task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.training.dataset import Closer


@dataclass(frozen=True)
class Plan:
    """What is trained, on which patients, and how.

    Attributes
    ----------
    model
        Name in the registry of models.
    options
        Its arguments besides those that the data give.
    task
        What is learned of a patient.
    time_unit
        Unit of the manifest's times, for survival.
    features
        Folder of features that the manifest does not place.
    closer
        Gives a slide's bag its finer features, for models that need them.
    folds, fold
        Which fold of how many tests, where the manifest has no split.
    fold_rule
        What folds and the order of cases hang on.
    fit
        How the model is fitted; its seed also draws folds and first weights.
    mixed_scales
        Whether features of several µm per pixel or patch sizes are accepted.
    """

    model: str = "acmil"
    options: Mapping[str, int | float | str] = field(default_factory=dict)
    task: Task = Task.CLASSIFICATION
    time_unit: str = ""
    features: Path | None = None
    closer: Closer | None = None
    folds: int = 5
    fold: int = 0
    fold_rule: FoldRule = FoldRule.NAMES
    fit: FitConfig = field(default_factory=FitConfig)
    mixed_scales: bool = False


def reads_records(name: str) -> bool:
    """Return whether a model of the registry takes the groups of a patient's record."""
    return "groups" in inspect.signature(model_class(name)).parameters


def check_plan(plan: Plan, manifest: Manifest) -> None:
    """Raise ValueError if the model cannot do the task, or does not go with the manifest."""
    check_task(plan.task, manifest, plan.time_unit)
    if plan.task is not Task.CLASSIFICATION and not model_class(plan.model).survives:
        able = ", ".join(name for name, cls in MODELS.items() if cls.survives)
        raise ValueError(f"{plan.model} does not learn {plan.task}: choose one of {able}")
    if Need.FINER in model_class(plan.model).needs and plan.closer is None:
        raise ValueError(f"{plan.model} looks closer at patches, which takes the slides themselves")
    if reads_records(plan.model) and manifest.schema is None:
        raise ValueError(f"{plan.model} reads clinical records: name the schema of the manifest's")
    if manifest.schema is not None and not reads_records(plan.model):
        able = ", ".join(name for name in MODELS if reads_records(name))
        raise ValueError(
            f"{plan.model} does not use clinical records. Drop the schema, or choose {able}"
        )
