"""Cohorts: patients, their slides, splits, labels and outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.cohort.endpoint import (
    NO_STATUS,
    NOT_NAMED,
    Endpoint,
    OutcomeCounts,
    TimeToEvent,
    counts_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_wsimil.clinical.schema import ClinicalSchema, Record


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
        Facts on the features that a person confirmed and the file lacks, such as
        "patch_size=512; encoder=uni"; see `features.importers.base.Confirmed`.
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
        """Return whether a file is its image, features or namesake."""
        path = Path(path)
        return path.stem == self.slide or path.absolute() in (self.slide_path, self.feature_path)

    def unnamed(self, words: str) -> str:
        """Return words with its files replaced by its name.

        File names can identify a patient.
        """
        for path in filter(None, (self.slide_path, self.feature_path)):
            words = words.replace(str(path), self.slide).replace(path.name, self.slide)
        return words


@dataclass(frozen=True)
class Patient:
    """Patient with all slides, or a slide as case.

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
        Patient of the slide; empty if the case is the patient.
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
        """Splits of the patient and slides; normally one."""
        stated = {self.split, *(slide.split for slide in self.slides)}
        return tuple(split for split in Split if split in stated)

    @property
    def slide_cases(self) -> tuple[Patient, ...]:
        """A case per slide.

        Label, split and outcome are the slide's, else the patient's.
        """
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
    """A cohort: patients in the order of the file."""

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
        """Return the patient of a slide or features file.

        The path decides first, then the name; None if neither matches.
        """
        source = Path(source)
        rows = [(patient, row) for patient in self.patients for row in patient.slides]
        placed = (p for p, r in rows if source.absolute() in (r.slide_path, r.feature_path))
        named = (p for p, r in rows if source.stem == r.slide)
        return next(chain(placed, named), None)


def count_outcomes(patients: Iterable[Patient], *, by_slide: bool) -> OutcomeCounts:
    """Count the outcomes of patients, or of their slides.

    A slide without an outcome of its own has its patient's. Where slides are counted, so are
    beside them the patients with an outcome, or a reason for none, of their own.
    """
    patients = tuple(patients)
    if not by_slide:
        return counts_of(map(outcome_of_patient, patients))
    slides = counts_of((outcome_of_patient(c) for p in patients for c in p.slide_cases), "slide")
    own = [outcome_of_patient(p) for p in patients if p.no_outcome or p.time is not None]
    return replace(slides, patients=counts_of(own) if own else None)


def outcome_of_patient(patient: Patient) -> TimeToEvent:
    """Return a patient's time and event, or the reason against."""
    problem = patient.no_outcome or ("" if patient.time is not None else NOT_NAMED)
    return TimeToEvent(patient.time, patient.event, problem)
