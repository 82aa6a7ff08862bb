"""Results of `predict` for all slides of a patient, or of a cohort."""

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
    """Return the predictions for a patient, and for each slide, pooled as the study declares.

    Parameters
    ----------
    cohort
        A manifest, or the folder of a study.

    Raises
    ------
    ValueError
        If there is no such patient, the study's records are not those the model reads, or no
        slide can be read.
    """
    loaded = _loaded(checkpoint)
    patient, unit = patient_named(cohort, name, loaded.card)
    facts = _asked(loaded, patient, unit, features, weights)
    warn(facts["warnings"])
    return facts


def cohort_facts(
    checkpoint: Path, cohort: Path, features: Path | None, weights: Path | None
) -> dict[str, Any]:
    """Return the predictions for every patient of a cohort with slides.

    A patient without a prediction has the reason under "failed".

    Raises
    ------
    ValueError
        If the cohort has no patient with slides, or its records are not those the model reads.
    """
    loaded = _loaded(checkpoint)
    patients, unit = patients_with_slides(cohort, loaded.card)
    answers: dict[str, Any] = {}
    for patient in patients:
        try:
            answers[patient.name] = _asked(loaded, patient, unit, features, weights)
        except (ValueError, OSError) as error:
            answers[patient.name] = {"failed": sentence(error)}
    if not answers:
        raise ValueError(f"{cohort} has no patient with slides")
    return {"patients": answers}


def some_failed(facts: Mapping[str, Any]) -> bool:
    """Return whether a slide or a patient among the facts of some failed."""
    several = facts.get("patients", {"": facts}).values()
    return any("failed" in one or one.get("failed slides") for one in several)


def _loaded(checkpoint: Path) -> LoadedModel:
    return finish(model_job(checkpoint))


def _asked(
    loaded: LoadedModel,
    patient: Patient,
    unit: Unit,
    features: Path | None,
    weights: Path | None,
) -> dict[str, Any]:
    """Return the predictions for a patient's slides; unreadable ones are listed apart."""
    record = patient.record if loaded.card.record else None
    work = patient_job(patient, loaded, record, features, weights, skip_unreadable=True)
    made = finish(work)
    facts = _facts(loaded.card, made.patient, unit, made.prediction)
    if made.failed:
        count = f"{len(made.failed)} of {len(patient.slides)} slides"
        left = f"{count} could not be read: not part of the answer"
        facts |= {"failed slides": made.failed, "warnings": (*made.prediction.warnings, left)}
    return facts


def _facts(card: Card, patient: Patient, unit: Unit, found: PatientPrediction) -> dict[str, Any]:
    shares = zip(patient.slides, slide_shares(found), strict=True)
    slides = {
        row.slide: {"probabilities": _named(card, share.own)}
        | ({} if share.change is None else {"change_by_it": _named(card, share.change)})
        for row, share in shares
    }
    facts: dict[str, Any] = {"patient": patient.name, "unit": unit.value, "slides": slides}
    if unit is Unit.SLIDE:
        for said in slides.values():
            said.pop("change_by_it", None)
        return facts | {"warnings": found.warnings}
    most = driver(found)
    return facts | {
        "probabilities": _named(card, found.probabilities),
        **found.scalars,
        "driven_by": None if most is None else patient.slides[most].slide,
        "warnings": found.warnings,
    }


def _named(card: Card, chances: Tensor) -> dict[str, float]:
    return dict(zip(card.outcomes, chances.tolist(), strict=True))
