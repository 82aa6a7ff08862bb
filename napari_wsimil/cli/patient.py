"""Results of `predict` for a patient, or for a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import warn
from napari_wsimil.explain.patient import driver, slide_shares
from napari_wsimil.progress import finish
from napari_wsimil.study.open_study import Unit
from napari_wsimil.workflows.patient import patient_job, patient_named, patients_with_slides
from napari_wsimil.workflows.pipeline import model_job
from napari_wsimil.workflows.progress import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.predict import PatientPrediction
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.loaded import LoadedModel


def patient_facts(
    checkpoint: Path, cohort: Path, name: str, features: Path | None, weights: Path | None
) -> dict[str, Any]:
    """Return the predictions for a patient and each slide.

    Slides are pooled as the study declares.

    Parameters
    ----------
    cohort
        A manifest, or the folder of a study.

    Raises
    ------
    ValueError
        If there is no such patient, the study's schema is not the model's, or no slide can be
        read.
    """
    loaded = _loaded(checkpoint)
    patient, unit = patient_named(cohort, name, loaded.card)
    facts = _predict(loaded, patient, unit, features, weights)
    warn(facts["warnings"])
    return facts


def cohort_facts(
    checkpoint: Path, cohort: Path, features: Path | None, weights: Path | None
) -> dict[str, Any]:
    """Return the predictions for every patient with slides.

    A patient without a prediction has the reason under "failed".

    Raises
    ------
    ValueError
        If the cohort has no patient with slides, or its schema is not the model's.
    """
    loaded = _loaded(checkpoint)
    patients, unit = patients_with_slides(cohort, loaded.card)
    predictions: dict[str, Any] = {}
    for patient in patients:
        try:
            predictions[patient.name] = _predict(loaded, patient, unit, features, weights)
        except (ValueError, OSError) as error:
            predictions[patient.name] = {"failed": sentence(error)}
    if not predictions:
        raise ValueError(f"{cohort} has no patient with slides")
    return {"patients": predictions}


def some_failed(facts: Mapping[str, Any]) -> bool:
    """Return whether a slide or patient failed."""
    several = facts.get("patients", {"": facts}).values()
    return any("failed" in one or one.get("failed slides") for one in several)


def _loaded(checkpoint: Path) -> LoadedModel:
    return finish(model_job(checkpoint))


def _predict(
    loaded: LoadedModel,
    patient: Patient,
    unit: Unit,
    features: Path | None,
    weights: Path | None,
) -> dict[str, Any]:
    """Return the predictions for a patient's slides.

    Unreadable slides are listed separately.
    """
    record = patient.record if loaded.card.record else None
    work = patient_job(patient, loaded, record, features, weights, skip_unreadable=True)
    outcome = finish(work)
    facts = _facts(loaded.card, outcome.patient, unit, outcome.prediction)
    if outcome.failed:
        count = f"{len(outcome.failed)} of {len(patient.slides)} slides"
        note = f"{count} could not be read: not part of the prediction"
        facts |= {"failed slides": outcome.failed, "warnings": (*outcome.prediction.warnings, note)}
    return facts


def _facts(
    card: Card, patient: Patient, unit: Unit, prediction: PatientPrediction
) -> dict[str, Any]:
    shares = zip(patient.slides, slide_shares(prediction), strict=True)
    slides = {
        row.slide: {"probabilities": _named(card, share.own)}
        | ({} if share.change is None else {"change_by_it": _named(card, share.change)})
        for row, share in shares
    }
    facts: dict[str, Any] = {"patient": patient.name, "unit": unit.value, "slides": slides}
    if unit is Unit.SLIDE:
        for slide in slides.values():
            slide.pop("change_by_it", None)
        return facts | {"warnings": prediction.warnings}
    most = driver(prediction)
    return facts | {
        "probabilities": _named(card, prediction.probabilities),
        **prediction.scalars,
        "driven_by": None if most is None else patient.slides[most].slide,
        "warnings": prediction.warnings,
    }


def _named(card: Card, probabilities: Tensor) -> dict[str, float]:
    return dict(zip(card.outcomes, probabilities.tolist(), strict=True))
