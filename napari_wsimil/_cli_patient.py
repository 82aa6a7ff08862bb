"""How the command line asks about a patient: all slides of one in a manifest or a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil._cli_console import warn
from napari_wsimil.explain.patient import driver, slide_shares
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.learning.checkpoint import load_checkpoint
from napari_wsimil.learning.closer import closer_for
from napari_wsimil.learning.cohort import BagFiles, read_cohort
from napari_wsimil.study.opened import Unit
from napari_wsimil.study.study import open_study

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.models.card import Card
    from napari_wsimil.study.manifest import Patient


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
        If there is no such patient, or the study's records are not those the model reads.
    """
    model, card = load_checkpoint(checkpoint)
    patient, unit = _patient(cohort, name, card)
    bags = BagFiles(patient.slides, features, closer=closer_for(type(model), weights))
    record = patient.record if card.record else None
    found = predict_patient(model, card, patient.name, tuple(bags), record)
    warn(found.warnings)
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
