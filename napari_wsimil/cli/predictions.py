"""How the command line keeps in a study what a model says of its patients."""

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
    """Return the hashes of the records as they are now, by patient; none but of a study."""
    return records_in(cohort) if is_study(cohort) else {}


def subject_of(cohort: Path | None, source: Path) -> Subject | None:
    """Return whose slide or features lie at a path, None where the cohort is no study."""
    return subject_in(cohort, source) if cohort is not None and is_study(cohort) else None


def keep_evaluated(cohort: Path, card: Card, found: Assessment, records: Mapping[str, str]) -> None:
    """Keep what a model says of the patients of a cohort that is a study, or warn why not."""
    if not is_study(cohort):
        return
    with open_study(cohort) as study:
        if study.read_only:
            _warn(study.read_only)
            return
        try:
            follow(keep_assessed(study, card, found, records), "keeping predictions")
        except StudyError as error:
            _warn(str(error))


def keep_explained(folder: Path, found: Prediction, subject: Subject) -> None:
    """Keep what a model says of a slide of a study, or tell why not."""
    with open_study(folder) as study:
        try:
            kept = keep_answer(study, found, subject)
        except StudyError as error:
            _warn(str(error))
            return
    if not kept:
        remark(
            f"not kept as a prediction: the study's are of patients, and {subject.patient} has "
            "several slides; `evaluate` pools them"
        )


def _warn(why: str) -> None:
    warn([f"the study does not keep these predictions: {why}"])
