"""Training of a cohort: a manifest in, a checkpoint with its card out."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.learning.cards import describe
from napari_wsimil.learning.checkpoint import save_checkpoint
from napari_wsimil.learning.cohort import cases_of, split_manifest
from napari_wsimil.learning.evaluation import Step, evaluate
from napari_wsimil.learning.fit import FitConfig, fit
from napari_wsimil.models import create_model

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_wsimil.learning.cases import Case
    from napari_wsimil.learning.fit import Epoch
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.manifest import Manifest


_ROUND = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Plan:
    """What is trained, on which patients, and how.

    Attributes
    ----------
    model
        Name in the registry of models.
    features
        Folder of features that the manifest does not place.
    folds, fold
        Which fold of how many tests, where the manifest has no split.
    fit
        How the model is fitted; its seed also draws folds and first weights.
    """

    model: str = "acmil"
    features: Path | None = None
    folds: int = 5
    fold: int = 0
    fit: FitConfig = field(default_factory=FitConfig)


def train_cohort(manifest: Manifest, path: Path, plan: Plan) -> Generator[Step | Epoch, None, Card]:
    """Yield what `fit` yields, write the checkpoint, and return its card.

    Raises
    ------
    ValueError
        If there are fewer than two classes, too few patients, or invalid features.
    """
    classes = manifest.classes
    if len(classes) < 2:
        found = ", ".join(classes) or "no label"
        raise ValueError(f"{manifest.path}: training needs two classes, there is {found}")
    fold = split_manifest(manifest, plan.folds, plan.fold, plan.fit.seed)
    train, validation, test = (
        _cases(manifest, names, plan.features) for names in (fold.train, fold.validation, fold.test)
    )
    _check_encoders([*train, *validation, *test])
    model = _new_model(plan, train[0].bags[0].features.shape[1], len(classes))
    yield from fit(model, train, validation, plan.fit)
    metrics = yield from _tested(model, test)
    metrics |= yield from _attention_top(model, validation or train)
    card = describe(
        model,
        [*train, *validation],
        classes=classes,
        data=f"{len(train)} patients trained, {len(validation)} chose the weights",
        seed=plan.fit.seed,
        salt=secrets.token_hex(8),
        created=datetime.now(UTC).date().isoformat(),
        metrics=metrics,
    )
    return save_checkpoint(path, model, card)


def _cases(manifest: Manifest, names: Sequence[str], folder: Path | None) -> tuple[Case, ...]:
    chosen = set(names)
    patients = [patient for patient in manifest.patients if patient.name in chosen]
    return cases_of(patients, manifest.classes, folder)


def _check_encoders(cases: Sequence[Case]) -> None:
    encoders = {bag.encoder for case in cases for bag in case.bags}
    if len(encoders) > 1:
        found = ", ".join(sorted(encoders))
        raise ValueError(f"the features are of several encoders, {found}: extract them anew")


def _new_model(plan: Plan, feature_dim: int, classes: int) -> MILModel:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(plan.fit.seed)
        return create_model(plan.model, feature_dim=feature_dim, classes=classes)


def _tested(model: MILModel, test: Sequence[Case]) -> Generator[Step, None, dict[str, float]]:
    if not test:
        return {}
    scores = yield from evaluate(model, test, "test")
    return {f"test {name}": value for name, value in scores.metrics().items()}


def _attention_top(
    model: MILModel, cases: Sequence[Case]
) -> Generator[Step, None, dict[str, float]]:
    """Return where the color bar of a model's attention ends, the same for every slide.

    It is the attention, in times of equal attention, that one patch in 50 of the slides at
    hand exceeds, up to the next round number. Models without attention have none.
    """
    found = []
    for done, case in enumerate(cases):
        yield Step("attention", done, len(cases))
        for bag in case.bags:
            with torch.no_grad():
                maps = model.eval()(bag).explanations
            found += [one.scores * len(bag) for one in maps if one.name == "attention"]
    if not found:
        return {}
    top = float(np.quantile(torch.cat(found).numpy(), 0.98))
    return {"attention_top": next((nice for nice in _ROUND if nice >= top), _ROUND[-1])}
