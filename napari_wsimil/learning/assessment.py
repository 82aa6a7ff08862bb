"""Assessment: how well a trained model classifies the patients of a cohort."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.learning.cohort import cases_of
from napari_wsimil.learning.evaluation import evaluate
from napari_wsimil.learning.metrics import intervals

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_wsimil.learning.cases import Case
    from napari_wsimil.learning.evaluation import Step
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.manifest import Manifest, Patient


@dataclass(frozen=True)
class Assessment:
    """What came of it.

    Attributes
    ----------
    metrics
        Value and bounds ("low", "high") of the 95 % bootstrap interval, by metric.
    patients
        Probability of each class, by patient and class.
    warnings
        What whoever reads the metrics must know, each once.
    """

    metrics: dict[str, dict[str, float]]
    patients: dict[str, dict[str, float]]
    warnings: tuple[str, ...]


def assess(
    model: MILModel,
    card: Card,
    manifest: Manifest,
    folder: Path | None = None,
    split: str | None = None,
    draws: int = 1000,
) -> Generator[Step, None, Assessment]:
    """Yield after every patient; return the metrics over patients.

    Parameters
    ----------
    folder
        Where features are that the manifest does not place.
    split
        Who is asked about; None for all labeled patients that the model was neither
        trained nor selected on.
    draws
        Bootstrap draws of patients.

    Raises
    ------
    ValueError
        If nobody is left to ask about, a label is no class of the model, or features are
        of another encoder.
    """
    patients = chosen_patients(card, manifest, split)
    cases = cases_of(patients, card.classes, folder)
    warnings = _warnings(card, cases)
    scores = yield from evaluate(model, cases, "patients")
    chances = scores.probabilities.numpy()
    bounds = intervals(scores.targets.numpy(), chances, draws=draws)
    return Assessment(
        metrics={n: {"value": i.value, "low": i.low, "high": i.high} for n, i in bounds.items()},
        patients={
            name: dict(zip(card.classes, row, strict=True))
            for name, row in zip(scores.patients, chances.tolist(), strict=True)
        },
        warnings=warnings,
    )


def _warnings(card: Card, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return what to know of these cases; ValueError if another encoder made a bag."""
    known = sum(card.trained_on(case.patient) for case in cases)
    kinds = set()
    for bag in (bag for case in cases for bag in case.bags):
        kinds.add(bag.synthetic)
        if bag.encoder != card.encoder:
            raise ValueError(
                f"features were made by {bag.encoder or 'an encoder nobody named'}, this model "
                f"takes those of {card.encoder}: extract them again with that encoder"
            )
    found = [f"the model was trained on {known} of {len(cases)} patients"] if known else []
    if kinds != {card.synthetic}:
        words = ("real", "synthetic")
        asked = words[not card.synthetic]
        found.append(f"the model was trained on {words[card.synthetic]} slides, some are {asked}")
    return tuple(found)


def chosen_patients(card: Card, manifest: Manifest, split: str | None) -> list[Patient]:
    """Return the labeled patients of a split, or those the model does not know.

    Raises
    ------
    ValueError
        If there are none.
    """
    labeled = [patient for patient in manifest.patients if patient.label is not None]
    if split is None:
        chosen = [patient for patient in labeled if not card.trained_on(patient.name)]
        lack = "no labeled patient that the model was not trained on"
    else:
        chosen = [patient for patient in labeled if patient.split == split]
        lack = f"no labeled patient of the split {split!r}"
    if not chosen:
        raise ValueError(f"{manifest.path}: there is {lack}")
    return chosen
