"""Manifest: a cohort as one CSV, a row per slide.

Columns: `patient_id` and `slide_id` (required), `slide_path`, `feature_path`,
`mpp_override` (µm per level-0 pixel), `feature_facts` (what a person confirmed of the
features), `split` (train, validation or test), `label`, `time`, `event` (1 = it happened,
0 = censored), and clinical fields as a schema names them. Without `time` and `event` the
columns of an exported outcome are read, such as PFS_MONTHS and PFS_STATUS.
Paths are relative to the CSV's folder. What is said of a patient is repeated in each row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.cohort.endpoint import Endpoint, with_outcome
from napari_wsimil.cohort.table import RecordError, Table, TableRow, read_table
from napari_wsimil.cohort.table_import.cell_parsing import may_be_nobody
from napari_wsimil.cohort.time_to_event import NO_STATUS
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.schema import ClinicalSchema, Record

#: Columns of a manifest besides clinical ones.
COLUMNS = (
    "patient_id",
    "slide_id",
    "slide_path",
    "feature_path",
    "mpp_override",
    "feature_facts",
    "split",
    "label",
    "time",
    "event",
)

#: What a slide may have of its own in a study whose predictions are of slides.
_OF_SLIDES = ("label", "time", "event")

#: Other tools' names of our columns: CLAM's label lists and STAMP's tables.
ALIASES: Mapping[str, str] = {
    "case_id": "patient_id",
    "PATIENT": "patient_id",
    "FILENAME": "slide_id",
}


class Split(StrEnum):
    """The part of a cohort a patient belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class SlideRow:
    """One slide of a patient.

    Attributes
    ----------
    slide
        Its name, unique in the manifest.
    slide_path, feature_path
        Image and features, absolute; None where the manifest is silent.
    mpp
        µm per level-0 pixel that a person stated against the file; None to believe the file.
    feature_facts
        What a person confirmed of the features that their file does not say, such as
        "patch_size=512; encoder=uni"; see `Confirmed` in `bags`.
    label, split, time, event
        The slide's own, where predictions are of slides; None where it has its patient's.
    no_outcome
        Why its rows of a table state no outcome. Where they state no status it has its patient's.
    """

    slide: str
    slide_path: Path | None = None
    feature_path: Path | None = None
    mpp: float | None = None
    feature_facts: str = ""
    label: str | None = None
    split: Split | None = None
    time: float | None = None
    event: bool | None = None
    no_outcome: str = ""

    def lies_at(self, path: Path | str) -> bool:
        """Return whether a file is its image or its features, or is called after it."""
        path = Path(path)
        return path.stem == self.slide or path.absolute() in (self.slide_path, self.feature_path)

    def unnamed(self, words: str) -> str:
        """Return words in which the slide's name stands for its files, which can name a patient."""
        for path in filter(None, (self.slide_path, self.feature_path)):
            words = words.replace(str(path), self.slide).replace(path.name, self.slide)
        return words


@dataclass(frozen=True)
class Patient:
    """One patient with all slides, or one slide where each is a case of its own.

    Attributes
    ----------
    name
        Pseudonym, or name of the slide.
    slides
        In the order of the manifest.
    label
        Name of the class; None if not labeled.
    split
        None if the manifest leaves it to folds.
    time, event
        Follow-up time in the study's unit, and whether the event happened at its end;
        both None without follow-up.
    record
        The clinical record; None if the manifest was read without a schema.
    of
        Whose slide it is; empty where the case is the patient.
    no_outcome
        Why the patient has no time and event; empty where they have them, or nothing is known.
    """

    name: str
    slides: tuple[SlideRow, ...]
    label: str | None = None
    split: Split | None = None
    time: float | None = None
    event: bool | None = None
    record: Record | None = None
    of: str = ""
    no_outcome: str = ""

    @property
    def person(self) -> str:
        """The patient's name, also where the case is a slide."""
        return self.of or self.name

    @property
    def parts(self) -> tuple[Split, ...]:
        """The parts of the cohort that the patient and the slides are in; one is right."""
        stated = {self.split, *(slide.split for slide in self.slides)}
        return tuple(split for split in Split if split in stated)

    @property
    def slide_cases(self) -> tuple[Patient, ...]:
        """A case per slide, with the label, split and outcome of the slide, else the patient's."""
        return tuple(self._slide_case(slide) for slide in self.slides)

    def _slide_case(self, slide: SlideRow) -> Patient:
        is_silent = slide.time is None and slide.no_outcome in ("", NO_STATUS)
        timed = self if is_silent else slide
        reason = (is_silent and self.no_outcome) or slide.no_outcome
        return replace(
            self,
            name=slide.slide,
            slides=(slide,),
            label=self.label if slide.label is None else slide.label,
            split=self.split if slide.split is None else slide.split,
            time=timed.time,
            event=timed.event,
            of=self.name,
            no_outcome=reason if timed.time is None else "",
        )


@dataclass(frozen=True)
class Manifest:
    """A cohort: patients in the order of the file; `time` and `event` are of its endpoint."""

    path: Path
    patients: tuple[Patient, ...]
    schema: ClinicalSchema | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({p.label for p in self.patients if p.label is not None}))

    def part(self, split: Split) -> tuple[Patient, ...]:
        """Return the patients of one split."""
        return tuple(patient for patient in self.patients if patient.split is split)

    def owner(self, source: Path | str) -> Patient | None:
        """Return whose slide or features a file is: by its place, else by its name; else None."""
        source = Path(source)
        rows = [(patient, row) for patient in self.patients for row in patient.slides]
        placed = (p for p, r in rows if source.absolute() in (r.slide_path, r.feature_path))
        named = (p for p, r in rows if source.stem == r.slide)
        return next(chain(placed, named), None)


def read_manifest(path: str | Path, schema: ClinicalSchema | None = None) -> Manifest:
    """Return the cohort in a CSV file.

    Parameters
    ----------
    path
        The CSV; see the module for its columns.
    schema
        Types of the clinical columns; without it they are left unread.

    Raises
    ------
    RecordError
        If a cell is not valid, a slide is named twice, or rows of a patient disagree; the
        message names file, row, column and value.
    OSError
        If the file cannot be read.
    """
    table, endpoint = with_outcome(_renamed(read_table(path)))
    _check_columns(table, schema)
    groups: dict[str, list[Patient]] = {}
    first: dict[str, int] = {}
    for row in table.rows:
        patient = _patient(row, schema)
        _claim(first, row, patient.slides[0].slide)
        groups.setdefault(patient.name, []).append(patient)
        _check_agreement(row, groups[patient.name][0], patient)
    patients = tuple(_merged(rows) for rows in groups.values())
    return Manifest(table.path, patients, schema, endpoint)


def _renamed(table: Table) -> Table:
    names = {c: ALIASES[c] for c in table.columns if ALIASES.get(c, c) not in table.columns}
    rows = (
        TableRow(row.path, row.line, {names.get(c, c): cell for c, cell in row.cells.items()})
        for row in table.rows
    )
    return Table(table.path, tuple(names.get(c, c) for c in table.columns), tuple(rows))


def _check_columns(table: Table, schema: ClinicalSchema | None) -> None:
    for column in ("patient_id", "slide_id"):
        if column not in table.columns:
            some = ", ".join(table.columns[:8])
            raise RecordError(f"{table.path} has no column {column!r}; it begins with {some}")
    for one in schema.fields if schema else ():
        for column in {one.name, *one.columns} & set(COLUMNS):
            raise RecordError(f"field {one.name!r}: {column!r} is the manifest's own column")


def _patient(row: TableRow, schema: ClinicalSchema | None) -> Patient:
    time, event = row.number("time", 0, math.inf), _event(row)
    if (time is None) != (event is None):
        raise row.error("time", f"and event {row.text('event')!r}: one needs the other")
    slide = SlideRow(
        _name(row, "slide_id"),
        row.file("slide_path"),
        row.file("feature_path"),
        row.number("mpp_override", *PLAUSIBLE_MPP),
        row.text("feature_facts"),
    )
    label = row.text("label")
    return Patient(
        name=_name(row, "patient_id"),
        slides=(slide,),
        label=None if label.casefold() in MARKERS else label,
        split=_split(row),
        time=time,
        event=event,
        record=_record(row, schema),
    )


def _name(row: TableRow, column: str) -> str:
    if may_be_nobody(name := row.name(column)):
        raise row.error(column, "may name nobody: write another name, or leave the row out")
    return name


def _event(row: TableRow) -> bool | None:
    text = row.text("event")
    if text not in ("", "0", "1", "0.0", "1.0"):
        raise row.error("event", "is neither 1 (it happened) nor 0 (censored)")
    return float(text) == 1 if text else None


def _split(row: TableRow) -> Split | None:
    text = row.text("split").lower()
    words = {"": None, "val": Split.VALIDATION, **{split.value: split for split in Split}}
    if text not in words:
        raise row.error("split", f"is none of {', '.join(Split)}")
    return words[text]


def _record(row: TableRow, schema: ClinicalSchema | None) -> Record | None:
    try:
        return schema.parse(row.cells) if schema else None
    except RecordError as error:
        raise RecordError(f"{row.path}, row {row.line}, {error}") from error


def _claim(first: dict[str, int], row: TableRow, slide: str) -> None:
    if slide in first:
        raise row.error("slide_id", f"is already in row {first[slide]}")
    first[slide] = row.line


def _check_agreement(row: TableRow, one: Patient, other: Patient) -> None:
    said, says = _stated(one), _stated(other)
    for column in said:
        if said[column] != says[column]:
            whose = f"differs from {said[column]!r} in an earlier row of patient {one.name!r}"
            slides = ": where it belongs to slides, import the table into a study of --unit slide"
            raise row.error(column, whose + slides * (column in _OF_SLIDES))


def _stated(patient: Patient) -> dict[str, object]:
    record = dict(patient.record.values) if patient.record else {}
    own = {column: getattr(patient, column) for column in ("label", "split", "time", "event")}
    return {**own, **record}


def _merged(rows: list[Patient]) -> Patient:
    return replace(rows[0], slides=tuple(slide for row in rows for slide in row.slides))
