"""Features of a cohort: read once before training, to report problems with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.training.dataset import BagFiles, read_bags
from napari_wsimil.training.evaluation import Step
from napari_wsimil.training.feature_check import report_features, slide_features

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.training.feature_check import FeatureReport, SlideFeatures
    from napari_wsimil.training.tasks import Task


def survey_cohort(
    manifest: Manifest, folder: Path | str | None, task: Task
) -> Generator[Step, None, FeatureReport]:
    """Yield after every patient; return problems and remarks on its features.

    The patients are those a task is learned of. Every file is read once and none is kept.
    """
    folder = None if folder is None else Path(folder)
    patients = [patient for patient in manifest.patients if task.known_of(patient)]
    rows: list[SlideFeatures] = []
    failed: list[str] = []
    for done, patient in enumerate(patients, 1):
        _, facts, errors = read_bags(BagFiles(patient.slides, folder), keep=False)
        failed += map(str, errors)
        if not errors:
            rows += slide_features(patient, facts)
        yield Step("check features", done, len(patients))
    report = report_features(rows)
    if not failed:
        return report
    listed = f"features that cannot be read ({len(failed)}): {'; '.join(failed)}"
    return replace(report, problem="; ".join(filter(None, (listed, report.problem))))
