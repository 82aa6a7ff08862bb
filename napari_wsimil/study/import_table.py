"""Import of tables into a study, and their export."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.cohort.manifest import count_outcomes
from napari_wsimil.cohort.table_export import write_cohort_table
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.cohort.table_import.plan import ImportPlan
from napari_wsimil.cohort.table_import.stages import infer
from napari_wsimil.files import atomic_write
from napari_wsimil.progress import Progress
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.open_study import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.cohort.table_import.plan import ImportPlan, InferredTable
    from napari_wsimil.progress import Work
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.pseudonyms import Key


def infer_table(
    study: Study,
    path: str | Path,
    *,
    schema: ClinicalSchema | None = None,
    key: Key | None = None,
    sheet: str = "",
) -> InferredTable:
    """Infer the columns of a table for a study.

    Parameters
    ----------
    study
        Study with the known fields and the slides to match to the table's patients.
    path
        Path of the table.
    schema
        Known fields for a study without fields, such as a shipped schema.
    key
        Key of the study's pseudonyms, to recognize its patients in the table.
    sheet
        Sheet of a workbook or file of an archive; the first if empty.

    Raises
    ------
    RecordError
        As `open_table`.
    """
    cases = study.manifest().patients
    if key is not None:
        cases = tuple(_identified(case, key.identifiers()) for case in cases)
    known = study.schema if study.schema.fields or schema is None else schema
    slides_own = study.unit is Unit.SLIDE
    return infer(open_table(path, sheet), known, cases=cases, slides_own=slides_own)


def write_plan(study: Study, plan: ImportPlan, why: str, key: Key | None = None) -> Work[Added]:
    """Write a plan's patients; yield progress, return the result.

    New fields are added to the study's schema in the same transaction. Stored values are never
    changed: patients that contradict them are listed. The audit log gets the table's SHA-256.

    Parameters
    ----------
    study, plan
        The study, and the plan of the import.
    why
        Reason for the audit log.
    key
        Key that assigns and saves pseudonyms for patients and slides; if None, they have the
        table's names.

    Raises
    ------
    RecordError
        If a question is open, or a name or value is invalid; nothing is changed then.
    StudyError
        If the study cannot be written.
    """
    patients = plan.patients(as_cases=key is None)
    if key is not None:
        erased = {entry.patient for entry in study.ledger.entries() if entry.act is Act.FORGOTTEN}
        patients, key = key.disguised(patients, study.manifest(), erased)
        key.save()
    yield Progress(30, 100)
    schema = plan.schema if plan.schema != study.schema else None
    endpoint = plan.outcome.endpoint if plan.outcome else None
    file = _sha256(plan.table.path)
    added = study.add(patients, why, schema=schema, endpoint=endpoint, file=file)
    yield Progress(100, 100)
    stored = [patient for patient in patients if patient.name in added.taken]
    return replace(added, outcomes=count_outcomes(stored, by_slide=plan.is_apart))


def export_table(
    study: Study,
    path: str | Path,
    *,
    time_unit: str = "",
    cbioportal: bool = False,
    outcome: str = "",
) -> tuple[str, ...]:
    """Write a cohort as a table, with an audit entry.

    Returns notes for readers of the table, in sentences. Parameters as `write_cohort_table`.

    Raises
    ------
    RecordError
        As `write_cohort_table`.
    StudyError
        If the audit log cannot be written; nothing is exported then.
    """
    path = Path(path).absolute()
    with atomic_write(path, ending=f".part{path.suffix}") as part:
        notes = write_cohort_table(
            study.manifest(), part, time_unit=time_unit, cbioportal=cbioportal, outcome=outcome
        )
        study.ledger.note(
            Act.EXPORTED, file=_sha256(part), destination=str(path), identifying=False
        )
    return notes


def _identified(case: Patient, identifiers: Mapping[str, str]) -> Patient:
    """Return a case with identifiers instead of pseudonyms."""
    slides = (replace(row, slide=identifiers.get(row.slide, row.slide)) for row in case.slides)
    return replace(case, name=identifiers.get(case.name, case.name), slides=tuple(slides))


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
