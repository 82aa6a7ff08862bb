"""Storage of predictions in a study, for `evaluate` and `explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.cli.console import follow, remark, warn
from napari_wsimil.study.create_study import StudyError, is_study, open_study
from napari_wsimil.workflows.save_predictions import (
    keep_answer,
    keep_assessed,
    records_in,
    subject_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.card import Card
    from napari_wsimil.training.evaluate import Assessment
    from napari_wsimil.workflows.save_predictions import Subject


def records_of(cohort: Path) -> dict[str, str]:
    """Return current record hashes by patient; empty without a study."""
    return records_in(cohort) if is_study(cohort) else {}


def subject_of(cohort: Path | None, source: Path) -> Subject | None:
    """Return the study's slide at a path, or None.

    None if the cohort is no study.
    """
    return subject_in(cohort, source) if cohort is not None and is_study(cohort) else None


def keep_evaluated(
    cohort: Path, card: Card, assessment: Assessment, records: Mapping[str, str]
) -> None:
    """Store a model's predictions if the cohort is a study.

    If they cannot be stored, a warning is printed.
    """
    if not is_study(cohort):
        return
    with open_study(cohort) as study:
        if study.read_only:
            _warn(study.read_only)
            return
        try:
            follow(keep_assessed(study, card, assessment, records), "storing predictions")
        except StudyError as error:
            _warn(str(error))


def keep_explained(folder: Path, prediction: Prediction, subject: Subject) -> None:
    """Store a prediction for a slide of a study.

    If it cannot be stored, a message is printed.
    """
    with open_study(folder) as study:
        try:
            stored = keep_answer(study, prediction, subject)
        except StudyError as error:
            _warn(str(error))
            return
    if not stored:
        remark(
            f"prediction not stored: the study stores one per patient, and {subject.patient} has "
            "several slides. `evaluate` pools them"
        )


def _warn(why: str) -> None:
    warn([f"predictions not stored in the study: {why}"])
