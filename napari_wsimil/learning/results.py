"""Results: how a model did on patients, as numbers to read and to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.learning.cases import unit_of
from napari_wsimil.learning.metrics import confusion, intervals, roc_curves
from napari_wsimil.learning.survival import c_index_interval

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.learning.cases import FollowUp
    from napari_wsimil.learning.evaluation import Scores
    from napari_wsimil.learning.metrics import Interval, Roc
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.manifest import Manifest


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
    """

    of: str
    outcomes: tuple[str, ...]
    metrics: dict[str, Interval]
    patients: tuple[PatientResult, ...]
    roc: tuple[Roc, ...] = ()
    confusion: NDArray[np.int64] | None = None
    unit: str = "patients"


def results_of(of: str, scores: Scores, card: Card, manifest: Manifest) -> Results:
    """Return the results of some patients of a manifest."""
    metrics, unit = bounds(scores), unit_of(manifest.patients)
    patients = _patients(scores, card, manifest)
    if scores.follow_ups:
        return Results(of, card.outcomes, metrics, patients, unit=unit)
    targets, probabilities = scores.targets.numpy(), scores.probabilities.numpy()
    return Results(
        of,
        card.outcomes,
        metrics,
        patients,
        roc=roc_curves(targets, probabilities),
        confusion=confusion(targets, probabilities),
        unit=unit,
    )


def bounds(scores: Scores, draws: int = 1000) -> dict[str, Interval]:
    """Return the metrics of classes, or of survival, with 95 % bootstrap intervals."""
    if scores.follow_ups:
        return c_index_interval(scores.follow_ups, scores.risks, draws, scores.persons)
    targets, probabilities = scores.targets.numpy(), scores.probabilities.numpy()
    return intervals(targets, probabilities, persons=scores.persons, draws=draws)


def _patients(scores: Scores, card: Card, manifest: Manifest) -> tuple[PatientResult, ...]:
    slides = {patient.name: patient.slides[0].slide_path for patient in manifest.patients}
    logits = scores.logits.double()
    chances = card.chances(logits)
    if card.survival is None:
        truths = [card.classes[int(target)] for target in scores.targets]
        answers = [card.classes[int(best)] for best in logits.argmax(dim=1)]
    else:
        truths = [_followed(one, card.survival.unit) for one in scores.follow_ups]
        answers = [f"risk {risk:.3f}" for risk in card.survival.risk(logits).tolist()]
    rows = zip(scores.patients, truths, answers, chances.tolist(), strict=True)
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
