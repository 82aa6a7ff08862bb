"""Erasure of a patient's values, files and history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.audit_entry import RETIRED, Act, append, drafted
from napari_wsimil.study.audit_log import read_entries
from napari_wsimil.study.orm import StoredEntry
from napari_wsimil.study.outcome_facts import forget_reasons
from napari_wsimil.study.patients import patient_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.manifest import Patient

#: Folders of a study in which patients have files.
_KEPT_IN = ("features", "maps", "exports")

_LEFT = (Act.EXPORTED, Act.SHARED, *RETIRED)


@dataclass(frozen=True)
class Forgotten:
    """Result of erasing a patient.

    Attributes
    ----------
    patient, slides
        Names of the patient and the slides.
    entries
        Number of erased audit entries.
    erased
        Deleted files of the study.
    outside
        Files outside the study, which are not deleted.
    unsure
        Maps and exports without a patient's name, which may include this patient, and files
        shared with another patient.
    departed
        Destinations of exported files of the patient or the whole study, from the audit log.
    """

    patient: str
    slides: tuple[str, ...] = ()
    entries: int = 0
    erased: tuple[Path, ...] = ()
    outside: tuple[Path, ...] = ()
    unsure: tuple[Path, ...] = ()
    departed: tuple[str, ...] = ()


def is_forgotten(session: Session, patient: str) -> bool:
    """Return whether a study has a tombstone for this name."""
    return any(e.act is Act.FORGOTTEN for e in read_entries(session, patient))


def erase(
    session: Session,
    schema: ClinicalSchema,
    roots: Mapping[str, Path],
    folder: Path | str,
    patient: str,
    tombstone: tuple[str, str],
) -> Forgotten:
    """Erase a patient and the patient's files within a transaction.

    Parameters
    ----------
    session, schema, roots, folder
        Session, schema, roots and folder of the study.
    patient
        Name of the patient.
    tombstone
        User and reason for the audit log.

    Raises
    ------
    RecordError
        If the patient is unknown.
    """
    folder = Path(folder)
    rows = rows_of(session)
    target = next((row for row in rows if row.name == patient), None)
    if target is None:
        raise RecordError(f"{folder} has no patient {patient!r}")
    owners = {n: row.name for row in rows for n in (row.name, *(s.name for s in row.slides))}
    known = patient_of(target, schema, roots)
    files = set(_files(folder, owners, patient))
    others = {
        p for row in rows if row is not target for p in _paths(patient_of(row, schema, roots))
    }
    paths = {path for path in _paths(known) if path.exists()}
    unsure = tuple(sorted({*_files(folder, owners, None), *(paths & others)}))
    inside = {path for path in paths - others if path.is_relative_to(folder) and path.is_file()}
    departed = _departed(session, patient)
    session.delete(target)
    forget_reasons(session, patient, [row.slide for row in known.slides])
    session.flush()
    numbers = _erase_entries(session, patient)
    who, why = tombstone
    append(session, [drafted(who, Act.FORGOTTEN, patient=patient, why=why, erased=numbers)])
    erased = tuple(sorted((files - others) | inside))
    for path in erased:
        path.unlink(missing_ok=True)
    slides = tuple(row.slide for row in known.slides)
    outside = tuple(sorted(paths - inside - others))
    return Forgotten(patient, slides, len(numbers), erased, outside, unsure, departed)


def _erase_entries(session: Session, patient: str) -> tuple[int, ...]:
    theirs = StoredEntry.patient == patient
    numbers = tuple(session.scalars(select(StoredEntry.number).where(theirs)))
    blank = {"content": None, "salt": None, "patient": ""}
    session.execute(update(StoredEntry).where(theirs).values(blank))
    return numbers


def _departed(session: Session, patient: str) -> tuple[str, ...]:
    entries = read_entries(session)
    names = ("", patient)
    destinations = (e.destination for e in entries if e.act in _LEFT and e.patient in names)
    return tuple(dict.fromkeys(filter(None, destinations)))


def _paths(patient: Patient) -> Iterator[Path]:
    for slide in patient.slides:
        yield from filter(None, (slide.slide_path, slide.feature_path))


def _files(folder: Path, owners: Mapping[str, str], patient: str | None) -> Iterator[Path]:
    """Yield files named after a patient or one's slides.

    A folder's name counts for the files in it. For None, yield the files named after no
    patient, except features, which always belong to one slide.
    """
    for top in _KEPT_IN if patient is not None else _KEPT_IN[1:]:
        for path in (folder / top).rglob("*"):
            parts = path.relative_to(folder / top).parts
            if not path.is_dir() and _owner(parts, owners) == patient:
                yield path


def _owner(parts: Sequence[str], owners: Mapping[str, str]) -> str | None:
    """Return the patient with the longest name starting a part."""
    for part in parts:
        names = [n for n in owners if part.startswith(n) and not part[len(n) :][:1].isalnum()]
        if names:
            return owners[max(names, key=len)]
    return None
