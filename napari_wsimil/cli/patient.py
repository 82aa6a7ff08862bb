"""How the command line asks about a patient: all slides of one in a manifest or a study."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import sentence, warn
from napari_wsimil.explain.patient import driver, slide_shares
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.study.create_study import open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import BagFiles, read_cohort
from napari_wsimil.training.subpatch_provider import closer_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.explain.predict import PatientPrediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card


def patient_facts(
    checkpoint: Path, cohort: Path, name: str, features: Path | None, weights: Path | None
) -> dict[str, Any]:
    """Return what a model says of a patient, and of each slide, pooled as the study declares.

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
    model, card = load_checkpoint(checkpoint)
    patient, unit = _patient(cohort, name, card)
    facts = _asked(model, card, patient, unit, features, weights)
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
    model, card = load_checkpoint(checkpoint)
    patients, unit = _patients(cohort, card)
    answers: dict[str, Any] = {}
    for patient in patients:
        try:
            answers[patient.name] = _asked(model, card, patient, unit, features, weights)
        except (ValueError, OSError) as error:
            answers[patient.name] = {"failed": sentence(error)}
    if not answers:
        raise ValueError(f"{cohort} has no patient with slides")
    return {"patients": answers}


def some_failed(facts: Mapping[str, Any]) -> bool:
    """Return whether a slide or a patient among the facts of some failed."""
    several = facts.get("patients", {"": facts}).values()
    return any("failed" in one or one.get("failed slides") for one in several)


def _asked(
    model: MILModel,
    card: Card,
    patient: Patient,
    unit: Unit,
    features: Path | None,
    weights: Path | None,
) -> dict[str, Any]:
    """Return the predictions for a patient's slides; unreadable ones are listed apart."""
    files = BagFiles(patient.slides, features, closer=closer_for(type(model), weights))
    bags, failed = _read(files)
    patient = replace(patient, slides=tuple(s for s in patient.slides if s.slide not in failed))
    record = patient.record if card.record else None
    prediction = predict_patient(model, card, patient.name, bags, record)
    facts = _facts(card, patient, unit, prediction)
    if failed:
        left = f"{len(failed)} of {len(files)} slides could not be read: not part of the answer"
        facts |= {"failed slides": failed, "warnings": (*prediction.warnings, left)}
    return facts


def _read(files: BagFiles) -> tuple[tuple[Bag, ...], dict[str, str]]:
    """Return the bags of a patient, and by slide why there is none; ValueError without any."""
    bags: list[Bag] = []
    failed: dict[str, str] = {}
    for number, slide in enumerate(files.slides):
        try:
            bags.append(files[number])
        except (ValueError, OSError) as error:
            failed[slide.slide] = sentence(error)
    if failed and not bags:
        raise ValueError("; ".join(failed.values()))
    return tuple(bags), failed


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


def _patients(cohort: Path, card: Card) -> tuple[list[Patient], Unit]:
    """Return the patients of a cohort with slides, and the unit of predictions."""
    if cohort.is_dir():
        with open_study(cohort) as study:
            if card.record is not None:
                card.record.check(study.schema)
            patients, unit = study.manifest().patients, study.unit
    else:
        schema = card.record.clinical if card.record else None
        patients, unit = read_cohort(cohort, schema).patients, Unit.PATIENT
    return [patient for patient in patients if patient.slides], unit


def _patient(cohort: Path, name: str, card: Card) -> tuple[Patient, Unit]:
    if cohort.is_dir():
        with open_study(cohort) as study:
            if card.record is not None:
                card.record.check(study.schema)
            return study.patient(name), study.unit
    manifest = read_cohort(cohort, card.record.clinical if card.record else None)
    for patient in manifest.patients:
        if patient.name == name:
            return patient, Unit.PATIENT
    raise ValueError(f"{cohort} has no patient {name!r}")


def _named(card: Card, chances: Tensor) -> dict[str, float]:
    return dict(zip(card.outcomes, chances.tolist(), strict=True))
