"""Study: open, create, import and export a study, and find a patient with files."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.table_formats import workbook_sheets
from napari_wsimil.cohort.table_import.stages import apply_answers
from napari_wsimil.progress import Progress, relabel
from napari_wsimil.study.case import Case
from napari_wsimil.study.create_study import create_study, open_study, study_of_folder
from napari_wsimil.study.import_table import export_table, infer_table, write_plan
from napari_wsimil.study.pseudonyms import default_key, read_key
from napari_wsimil.study.restore import restore_study

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Manifest, SlideRow
    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.progress import Work
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.audit_log import Entry
    from napari_wsimil.study.create_study import Study, Unit
    from napari_wsimil.study.predictions import Answer, Review
    from napari_wsimil.study.pseudonyms import Key
    from napari_wsimil.study.restore import Restored
    from napari_wsimil.study.training_runs import Run


@dataclass(frozen=True, eq=False)
class Opened:
    """A study with its patients as they were read, and the last answer and review of each."""

    study: Study
    manifest: Manifest
    answers: Mapping[str, Answer]
    reviews: Mapping[str, Review]
    news: str = ""


@dataclass(frozen=True, eq=False)
class Planned:
    """What an import will do, and the key of the study's pseudonyms; it may be empty yet."""

    plan: ImportPlan
    key: Key


@dataclass(frozen=True, eq=False)
class Sought:
    """A patient to be opened.

    Attributes
    ----------
    case
        As the study has them now.
    row
        The slide, without files that are not there; None if none of them is.
    lack
        What is not there, in a sentence; empty if all is.
    """

    case: Case
    row: SlideRow | None
    lack: str


@dataclass(frozen=True)
class Chain:
    """A ledger, newest entry first, and the fault of its chain; empty if it holds."""

    entries: tuple[Entry, ...]
    fault: str


def open_study_job(folder: Path | str) -> Work[Opened]:
    """Return the study in a folder."""
    yield Progress(text="opening the study")
    study = open_study(folder)
    return (yield from read_job(study))


def create_study_job(
    folder: Path | str, schema: ClinicalSchema, name: str, unit: Unit
) -> Work[Opened]:
    """Return a new study in a folder."""
    yield Progress(text="making the study")
    return (yield from read_job(create_study(folder, schema, name=name, unit=unit)))


def folder_job(slides: Path | str, folder: Path | str) -> Work[Opened]:
    """Return a new study of the slides in a folder, each of which is a case."""
    yield Progress(text="looking for slides")
    return (yield from read_job(study_of_folder(slides, folder)))


def restore_job(folder: Path | str, name: str) -> Work[Opened]:
    """Return a study, restored from the backup of a name."""
    yield Progress(text="restoring the backup")
    restored = restore_study(folder, name)
    opened = yield from open_study_job(folder)
    return replace(opened, news=_restored_message(restored))


def read_job(study: Study) -> Work[Opened]:
    """Return a study with its patients."""
    yield Progress(text="reading the patients")
    return Opened(study, study.manifest(), study.predictions.latest(), study.reviews.latest())


def plan_table_job(
    study: Study, path: Path | str, schema: ClinicalSchema | None = None, sheet: str = ""
) -> Work[Planned]:
    """Return what the import of a table will do; of a workbook the first that can be one."""
    yield Progress(text="reading the table")
    key = read_key(default_key(study.identity), study.folder)
    names = (sheet,) if sheet else workbook_sheets(path) or ("",)
    problems: list[RecordError] = []
    for name in names:
        try:
            inferred = infer_table(study, path, schema=schema, key=key, sheet=name)
            return Planned(apply_answers(inferred), key)
        except RecordError as error:
            problems.append(error)
    raise problems[0]


def import_job(study: Study, plan: ImportPlan, why: str, key: Key | None) -> Work[Added]:
    """Return what came of the import of a table, under pseudonyms if there is a key."""
    work = write_plan(study, plan, why, key)
    return (yield from relabel(work, "importing the table"))


def export_table_job(
    study: Study, path: Path | str, time_unit: str, cbioportal: bool
) -> Work[tuple[str, ...]]:
    """Write a study's cohort; return notes for readers of the table."""
    yield Progress(text="writing the table")
    return export_table(study, path, time_unit=time_unit, cbioportal=cbioportal)


def chain_job(study: Study) -> Work[Chain]:
    """Return a study's ledger, its chain checked."""
    yield Progress(text="checking the ledger")
    return Chain(study.ledger.entries()[::-1], study.ledger.check())


def runs_job(study: Study) -> Work[tuple[Run, ...]]:
    """Return the models that were trained on a study."""
    yield Progress(text="reading the runs")
    return study.runs.read()


def case_of(study: Study, manifest: Manifest, name: str) -> Case:
    """Return a patient as a case of a study, to look at and to edit.

    Raises
    ------
    RecordError
        If there is no such patient, or the study cannot be read.
    """
    held = study.records.read(name)
    cohort = tuple(patient.record for patient in manifest.patients if patient.record is not None)
    return Case(name, study.schema, held.record, held.version, cohort)


def seek(study: Study, manifest: Manifest, name: str, slide: str = "") -> Sought:
    """Return a patient of a study with a slide, or the first one, and which files are there.

    Raises
    ------
    RecordError
        As `case_of`.
    """
    case = case_of(study, manifest, name)
    slides = next(patient.slides for patient in manifest.patients if patient.name == name)
    row = next((one for one in slides if slide in ("", one.slide)), None)
    if row is None:
        return Sought(case, None, f"{name} has no slide: the record is shown alone.")
    there = _there(row)
    has_files = there.slide_path is not None or there.feature_path is not None
    return Sought(case, there if has_files else None, _lack(row, there))


def _there(row: SlideRow) -> SlideRow:
    """Return a slide without the files that are not where the study says."""
    image, data = row.slide_path, row.feature_path
    return replace(
        row,
        slide_path=image if image is not None and image.exists() else None,
        feature_path=data if data is not None and data.exists() else None,
    )


def _lack(row: SlideRow, there: SlideRow) -> str:
    """Return what is not there of a slide, empty if all is."""
    gone = ["image"] * (row.slide_path != there.slide_path)
    gone += ["features file"] * (row.feature_path != there.feature_path)
    if gone:
        return f"{row.slide}: {' and '.join(gone)} not where the study says. Has a folder moved?"
    if row.slide_path is None and row.feature_path is None:
        return f"{row.slide} has no files: the record is shown alone."
    return ""


def _restored_message(restored: Restored) -> str:
    """Return the restored backup, and where the replaced database is."""
    message = f"Restored the backup of {restored.backup.label}."
    if restored.replaced is not None:
        replaced = html.escape(restored.replaced.name, quote=False)
        message += f"<br>The replaced database is kept as backups/{replaced}."
    return message
