"""Results: how a model did on patients, as numbers to read and to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.gaps import gaps
from napari_wsimil.training.metrics import confusion, intervals, roc_curves
from napari_wsimil.training.survival_metrics import c_index_interval
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.models.card import Card
    from napari_wsimil.training.cases import FollowUp
    from napari_wsimil.training.evaluation import Scores
    from napari_wsimil.training.metrics import Interval, Roc


@dataclass(frozen=True)
class PatientResult:
    """What was true of a patient, and what the model says.

    Attributes
    ----------
    patient
        Name in the manifest; of a slide, where each is a case of its own.
    truth
        Name of the class, or the follow-up in words.
    answer
        Name of the likeliest class, or the risk.
    right
        Whether the answer is the truth; None of survival.
    chances
        Probabilities of what the card's `outcomes` name.
    slide
        Where the patient's first slide is; None if the manifest does not say.
    """

    patient: str
    truth: str
    answer: str
    right: bool | None
    chances: tuple[float, ...]
    slide: Path | None


@dataclass(frozen=True, eq=False)
class Results:
    """How a model did.

    Attributes
    ----------
    of
        Whom it was asked about: "test" patients, or "validation" patients, which chose the
        weights, so that their metrics flatter.
    outcomes
        What the chances are of.
    metrics
        With 95 % bootstrap intervals over patients.
    patients
        In the order of the cohort.
    roc
        One class against the rest; none for survival.
    confusion
        (C, C) patients, row the class, column the answer; None for survival.
    unit
        What is counted: "patients", or "slides" where each is a case of its own.
    notes
        Which class or event is missing in which part of the cohort, in sentences.
    """

    of: str
    outcomes: tuple[str, ...]
    metrics: dict[str, Interval]
    patients: tuple[PatientResult, ...]
    roc: tuple[Roc, ...] = ()
    confusion: NDArray[np.int64] | None = None
    unit: str = "patients"
    notes: tuple[str, ...] = ()


def results_of(of: str, scores: Scores, card: Card, manifest: Manifest) -> Results:
    """Return the results of some patients of a manifest."""
    unit = unit_of(manifest.patients)
    metrics = bounds(scores, classes=card.classes, of=of)
    notes = gaps(card.parts, Task(card.task), unit)
    patients = _patients(scores, card, manifest)
    if scores.follow_ups:
        return Results(of, card.outcomes, metrics, patients, unit=unit, notes=notes)
    targets, probabilities = scores.targets.numpy(), scores.probabilities.numpy()
    return Results(
        of,
        card.outcomes,
        metrics,
        patients,
        roc=roc_curves(targets, probabilities),
        confusion=confusion(targets, probabilities),
        unit=unit,
        notes=notes,
    )


def bounds(
    scores: Scores, draws: int = 1000, *, classes: Sequence[str] = (), of: str = "test"
) -> dict[str, Interval]:
    """Return the metrics of classes, or of survival, with 95 % bootstrap intervals.

    Parameters
    ----------
    scores
        Of the cases.
    draws
        Of the bootstrap.
    classes, of
        Names of the classes and of the set of cases, for the reasons why a number is missing.
    """
    classes = classes or [str(number) for number in range(scores.logits.shape[1])]
    why = scores.undefined(classes, of)
    if scores.follow_ups:
        return c_index_interval(scores.follow_ups, scores.risks, draws, scores.persons, why)
    return intervals(
        scores.targets.numpy(),
        scores.probabilities.numpy(),
        persons=scores.persons,
        draws=draws,
        names=[f"class {name}" for name in classes],
        undefined=why,
    )


def figures(
    scores: Scores, classes: Sequence[str], of: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the metrics of a set as a card keeps them: None with a reason if not defined."""
    known = {f"{of} {name}": value for name, value in scores.metrics().items()}
    missing = [name for name, value in known.items() if math.isnan(value)]
    why = scores.undefined(classes, of) if missing else ""
    metrics = {name: None if name in missing else value for name, value in known.items()}
    return metrics, dict.fromkeys(missing, f"not defined: {why}")


def _patients(scores: Scores, card: Card, manifest: Manifest) -> tuple[PatientResult, ...]:
    slides = {patient.name: patient.slides[0].slide_path for patient in manifest.patients}
    order = {patient.name: number for number, patient in enumerate(manifest.patients)}
    logits = scores.logits.double()
    chances = card.chances(logits)
    if card.survival is None:
        truths = [card.classes[int(target)] for target in scores.targets]
        answers = [card.classes[int(best)] for best in logits.argmax(dim=1)]
    else:
        truths = [_followed(one, card.survival.unit) for one in scores.follow_ups]
        answers = [f"risk {risk:.3f}" for risk in card.survival.risk(logits).tolist()]
    rows = sorted(
        zip(scores.patients, truths, answers, chances.tolist(), strict=True),
        key=lambda row: order[row[0]],
    )
    return tuple(
        PatientResult(
            patient=name,
            truth=truth,
            answer=answer,
            right=truth == answer if card.survival is None else None,
            chances=tuple(row),
            slide=slides[name],
        )
        for name, truth, answer, row in rows
    )


def _followed(one: FollowUp, unit: str) -> str:
    return f"{'event' if one.event else 'no event'} until {one.time:.12g} {unit}"
