"""Adding patients to a study without overwriting stored values."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.audit_entry import Act, Entry, append, drafted, per_field
from napari_wsimil.study.file_links import CONFIRMED, Place
from napari_wsimil.study.health import StudyError
from napari_wsimil.study.orm import (
    StoredEntry,
    StoredFeatures,
    StoredPatient,
    StoredRecord,
    StoredSlide,
)
from napari_wsimil.study.records import cells_of, exact_texts, held

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.cohort.endpoint import OutcomeCounts
    from napari_wsimil.cohort.manifest import Patient, SlideRow

#: Longest name of a patient or slide, in characters.
LONGEST_NAME = 200

_OWN = ("label", "split", "time", "event")


@dataclass(frozen=True)
class Added:
    """Result of adding patients, by name.

    Attributes
    ----------
    new
        Patients that the study did not have.
    completed
        Known patients that got further values.
    same
        Known patients without further values.
    conflicts
        One sentence per patient that contradicts the study; none of its values were added.
    outcomes
        Counts of outcomes of patients, or of slides; None if no table was imported.
    """

    new: tuple[str, ...]
    completed: tuple[str, ...]
    same: tuple[str, ...]
    conflicts: tuple[str, ...]
    outcomes: OutcomeCounts | None = None

    @property
    def taken(self) -> frozenset[str]:
        """Names of the given patients now in the study."""
        return frozenset((*self.new, *self.completed, *self.same))


@dataclass
class Addition:
    """Addition of patients within one transaction.

    Attributes
    ----------
    session, schema
        Session and schema of the study.
    places
        Places of files by path.
    who, why
        User and reason for the audit log.
    by_slide
        Whether slides may have their own label, split and outcome.
    known, owners, forgotten
        Stored patients by name, patients by slide, and names of erased patients.
    notes
        Records to update, each with its audit entry.
    """

    session: Session
    schema: ClinicalSchema
    places: Mapping[Path, Place]
    who: str
    why: str
    by_slide: bool = False
    known: dict[str, StoredPatient] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    notes: list[tuple[StoredRecord, Entry]] = field(default_factory=list)

    def run(self, patients: Sequence[Patient]) -> Added:
        """Add patients; return the result by name."""
        self._look_up()
        added: dict[str, list[str]] = {"new": [], "completed": [], "same": [], "conflicts": []}
        for patient in patients:
            kind, text = self._add(patient)
            added[kind].append(text)
        for (record, _), entry in zip(
            self.notes, append(self.session, [entry for _, entry in self.notes]), strict=True
        ):
            record.version = entry.number
        return Added(
            new=tuple(added["new"]),
            completed=tuple(added["completed"]),
            same=tuple(added["same"]),
            conflicts=tuple(added["conflicts"]),
        )

    def _look_up(self) -> None:
        query = select(StoredPatient).options(
            selectinload(StoredPatient.record),
            selectinload(StoredPatient.slides).selectinload(StoredSlide.features),
        )
        for row in self.session.scalars(query):
            self.known[row.name] = row
            self.owners |= dict.fromkeys((slide.name for slide in row.slides), row.name)
        tombstones = StoredEntry.content.contains(f'"act": "{Act.FORGOTTEN}"')
        self.forgotten |= set(self.session.scalars(select(StoredEntry.patient).where(tombstones)))

    def _add(self, patient: Patient) -> tuple[str, str]:
        cells = self._cells(patient)
        for name in (patient.name, *(slide.slide for slide in patient.slides)):
            _check_name(name)
        self._check_unit(patient)
        if conflict := self._conflict(patient, cells):
            return "conflicts", conflict
        is_new = patient.name not in self.known
        row = self._row(patient)
        changes = self._changes(row, patient, cells)
        if not (is_new or changes):
            return "same", patient.name
        self._fill(row, patient, cells)
        self._note(row, {} if is_new else changes)
        return ("new" if is_new else "completed"), patient.name

    def _cells(self, patient: Patient) -> dict[str, str]:
        values = patient.record.values if patient.record else {}
        texts = exact_texts(self.schema, values)
        return {name: text for name, text in texts.items() if text}

    def _check_unit(self, patient: Patient) -> None:
        """Raise RecordError for slide values in a per-patient study."""
        own = [n for n in _OWN for slide in patient.slides if getattr(slide, n) is not None]
        if own and not self.by_slide:
            raise RecordError(
                f"{patient.name}: a slide has its own {own[0]}, but this study predicts per "
                "patient. Give it to the patient, or create a study with --unit slide."
            )

    def _conflict(self, patient: Patient, cells: Mapping[str, str]) -> str:
        if patient.name in self.forgotten:
            return f"{patient.name}: was erased from this study; choose another name"
        for slide in patient.slides:
            owner = self.owners.get(slide.slide, patient.name)
            if owner != patient.name:
                return f"{patient.name}: slide {slide.slide} already belongs to {owner}"
        row = self.known.get(patient.name)
        for title, old, new in self._pairs(row, patient, cells) if row else ():
            if old and new and old != new:
                return f"{patient.name}: {title} is {old} in the study, {new} here"
        return _split_conflict(row, patient)

    def _pairs(
        self, row: StoredPatient, patient: Patient, cells: Mapping[str, str]
    ) -> list[tuple[str, str, str]]:
        """Return title, stored and given text of each value."""
        own = [(n, _text(getattr(row, n)), _text(getattr(patient, n))) for n in _OWN]
        before = cells_of(row.record, self.schema) if row.record else {}
        record = [(name, before.get(name, ""), text) for name, text in cells.items()]
        slides = {slide.name: slide for slide in row.slides}
        files = [p for s in patient.slides for p in self._slide_pairs(slides.get(s.slide), s)]
        return own + record + files

    def _slide_pairs(
        self, stored: StoredSlide | None, slide: SlideRow
    ) -> list[tuple[str, str, str]]:
        features = stored.features if stored else None
        image = self._place(slide.slide_path), _stored_place(stored)
        data = self._place(slide.feature_path), _stored_place(features)
        return [
            (f"slide {slide.slide}", stored.name if stored else "", slide.slide),
            (f"image of {slide.slide}", _text(image[1]), _text(image[0])),
            (f"features of {slide.slide}", _text(data[1]), _text(data[0])),
            (f"mpp of {slide.slide}", _text(stored.mpp if stored else None), _text(slide.mpp)),
            *(
                (f"{name} of {slide.slide}", _text(getattr(stored, name, None)), _text(value))
                for name in _OWN
                if (value := getattr(slide, name)) is not None
            ),
        ]

    def _changes(
        self, row: StoredPatient, patient: Patient, cells: Mapping[str, str]
    ) -> dict[str, tuple[str, str]]:
        pairs = self._pairs(row, patient, cells)
        return {title: (old, new) for title, old, new in pairs if new and new != old}

    def _row(self, patient: Patient) -> StoredPatient:
        if patient.name not in self.known:
            row = StoredPatient(name=patient.name, record=StoredRecord(version=0, cells="{}"))
            self.session.add(row)
            self.known[patient.name] = row
        return self.known[patient.name]

    def _fill(self, row: StoredPatient, patient: Patient, cells: Mapping[str, str]) -> None:
        for name in _OWN:
            if (value := getattr(patient, name)) is not None:
                setattr(row, name, value)
        if row.record is not None:
            row.record.cells = json.dumps(json.loads(row.record.cells) | cells)
        slides = {slide.name: slide for slide in row.slides}
        for slide in patient.slides:
            if slide.slide not in slides:
                slides[slide.slide] = StoredSlide(name=slide.slide)
                row.slides.append(slides[slide.slide])
                self.owners[slide.slide] = patient.name
            self._fill_slide(slides[slide.slide], slide)

    def _fill_slide(self, row: StoredSlide, slide: SlideRow) -> None:
        if (image := self._place(slide.slide_path)) is not None:
            row.root, row.path = image.root, image.path
        for name in ("mpp", *_OWN):
            if (value := getattr(slide, name)) is not None:
                setattr(row, name, value)
        data = self._place(slide.feature_path)
        if data is not None and row.features is None:
            facts = {CONFIRMED: slide.feature_facts} if slide.feature_facts else {}
            row.features = StoredFeatures(root=data.root, path=data.path, facts=json.dumps(facts))

    def _note(self, row: StoredPatient, changes: Mapping[str, tuple[str, str]]) -> None:
        if row.record is None:
            raise StudyError(f"patient {row.name} has no record any more. Restore a backup.")
        record = held(self.schema, row.record).record
        entry = drafted(self.who, Act.IMPORTED, patient=row.name, why=self.why)
        entries = per_field(replace(entry, record=record.digest()), changes)
        self.notes += [(row.record, entry) for entry in entries]

    def _place(self, path: Path | None) -> Place | None:
        return None if path is None else self.places[path]


def _split_conflict(row: StoredPatient | None, patient: Patient) -> str:
    """Return the conflict of slides in several splits, else empty."""
    slides = {slide.name: slide.split for slide in row.slides} if row else {}
    slides |= {slide.slide: slide.split for slide in patient.slides if slide.split is not None}
    common = patient.split or (row.split if row else None)
    counts = Counter(str(split or common) for split in slides.values() if split or common)
    if len({*counts, *([str(common)] if common else [])}) < 2:
        return ""
    texts = ", ".join(f"{split} {count}" for split, count in sorted(counts.items()))
    return (
        f"{patient.name}: slides would be in more than one split ({texts}), so the patient would "
        "be known in testing. Give all slides of a patient the same split."
    )


def _stored_place(row: StoredSlide | StoredFeatures | None) -> Place | None:
    if row is None or row.root is None or row.path is None:
        return None
    return Place(row.root, row.path)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value.root}:{value.path}" if isinstance(value, Place) else str(value)


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise RecordError(
            f"names of patients and slides need 1 to {LONGEST_NAME} printable characters "
            f"(got {name[:40]!r})"
        )
