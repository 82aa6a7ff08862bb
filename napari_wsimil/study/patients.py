"""Patients of a study's database, and cases from folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.study.file_links import CONFIRMED, Place, resolved
from napari_wsimil.study.orm import StoredPatient, StoredSlide
from napari_wsimil.study.records import held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.study.orm import StoredFeatures

#: File name endings of whole-slide images.
SLIDES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs"),
    *(".vms", ".vmu", ".svslide", ".qptiff", ".btf"),
}


def patient_of(row: StoredPatient, schema: ClinicalSchema, roots: Mapping[str, Path]) -> Patient:
    """Return the patient in a row, with absolute paths.

    Raises
    ------
    StudyError
        If a path leaves the study's folder, or the record does not fit the schema.
    """
    return Patient(
        name=row.name,
        slides=tuple(_slide_of(slide, roots) for slide in row.slides),
        label=row.label,
        split=None if row.split is None else Split(row.split),
        time=row.time,
        event=row.event,
        record=schema.parse({}) if row.record is None else held(schema, row.record).record,
    )


def rows_of(session: Session, name: str | None = None) -> Sequence[StoredPatient]:
    """Return patient rows with related rows; all without a name."""
    query = select(StoredPatient).order_by(StoredPatient.id)
    if name is not None:
        query = query.where(StoredPatient.name == name)
    slides = selectinload(StoredPatient.slides).selectinload(StoredSlide.features)
    return session.scalars(query.options(selectinload(StoredPatient.record), slides)).all()


def cases_in(folder: Path | str) -> tuple[Patient, ...]:
    """Return one case per slide in a folder.

    Subfolders are included, hidden files and folders are skipped. Cases are named P0001 and so
    on, not after files, since file names may name patients.

    Raises
    ------
    RecordError
        If there are no slides.
    OSError
        If the folder cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    visible = (p for p in folder.rglob("*") if not _is_hidden(p.relative_to(folder)))
    files = sorted(path for path in visible if path.suffix.lower() in SLIDES and path.is_file())
    if not files:
        raise RecordError(f"{folder} has no slides ({', '.join(sorted(SLIDES))})")
    names = [f"P{number:04d}" for number in range(1, len(files) + 1)]
    return tuple(
        Patient(name, (SlideRow(f"{name}-1", slide_path=file),))
        for name, file in zip(names, files, strict=True)
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _slide_of(row: StoredSlide, roots: Mapping[str, Path]) -> SlideRow:
    facts = json.loads(row.features.facts).get(CONFIRMED, "") if row.features else ""
    return SlideRow(
        row.name,
        _path(row, roots),
        _path(row.features, roots),
        row.mpp,
        facts,
        row.label,
        None if row.split is None else Split(row.split),
        row.time,
        row.event,
    )


def _path(row: StoredSlide | StoredFeatures | None, roots: Mapping[str, Path]) -> Path | None:
    if row is None or row.root is None or row.path is None:
        return None
    return resolved(Place(row.root, row.path), roots)
