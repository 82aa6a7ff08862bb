"""Slide matching: slides of each patient, and the study's patients in a table."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.cohort.manifest import Patient, SlideRow

_T = TypeVar("_T")

#: What may follow a patient's name in the name of a slide: TCGA-A1-A0SK-01Z-00-DX1.
_SEPARATORS = "-_. "

#: Project, tissue source site and participant: TCGA-A1-A0SK.
_PARTICIPANT = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=$|[^A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class SlideMatches:
    """Slides by patient, and what is left over.

    Attributes
    ----------
    slides
        Those of each patient of the table that has some.
    without
        Patients without a slide.
    of_nobody
        Names of the study's slides that are of no patient of the table.
    contested
        Names of slides that several patients claim; they are of nobody.
    cases
        What patients are called in the study already, where that is not what the table says.
    scattered
        Patients whose slides are of several cases of the study, and those.
    """

    slides: Mapping[str, tuple[SlideRow, ...]]
    without: tuple[str, ...]
    of_nobody: tuple[str, ...]
    contested: tuple[str, ...] = ()
    cases: Mapping[str, str] = field(default_factory=dict)
    scattered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class _Claims:
    """Slides by name, and the patients of a table that claim each."""

    rows: dict[str, SlideRow] = field(default_factory=dict)
    patients: dict[str, list[str]] = field(default_factory=dict)
    cases: dict[str, set[str]] = field(default_factory=dict)

    def claim(self, slide: SlideRow, patient: str) -> None:
        self.rows.setdefault(slide.slide, slide)
        claimed = self.patients.setdefault(slide.slide, [])
        if patient not in claimed:
            claimed.append(patient)


def match_slides(
    named: Mapping[str, Sequence[SlideRow]], cases: Iterable[Patient] = ()
) -> SlideMatches:
    """Return which slide is whose.

    A slide belongs to the patient beside whom a table names it, to the one whose name its
    case has, or to the one with whose name its own or its file's begins, whatever the case
    (the longest such name, so that P1 has not P12's).

    Parameters
    ----------
    named
        What a table says: slides by patient, for every patient of it.
    cases
        Those of the study, with their slides.
    """
    claims = _Claims()
    for patient, some in named.items():
        for slide in some:
            claims.claim(slide, patient)
    names = _Names(named, claims.patients)
    of_nobody = [
        slide.slide
        for case in cases
        for slide in case.slides
        if not _found(claims, names, case.name, slide)
    ]
    return _links(named, claims, of_nobody)


class _Names:
    """The names of patients and slides of a table, by what the name of a slide begins with.

    Case counts only between names that differ in nothing else.
    """

    def __init__(self, patients: Iterable[str], slides: Mapping[str, list[str]]) -> None:
        self._patients: dict[str, list[str]] = {}
        for patient in patients:
            self._patients.setdefault(patient.casefold(), []).append(patient)
        self._slides: dict[str, list[str]] = {}
        for slide in slides:
            self._slides.setdefault(slide.casefold(), []).append(slide)
        self._owners = {slide: owners[0] for slide, owners in slides.items()}

    def of(self, case: str, slide: SlideRow) -> tuple[str | None, str | None]:
        """Return the name under which the table has a slide, and the patient of it."""
        files = [p.stem for p in (slide.slide_path, slide.feature_path) if p is not None]
        for text in (slide.slide, *files):
            if (name := _in_case(_longest(self._slides, text), text)) is not None:
                return name, self._owners[name]
        own = _in_case(self._patients.get(case.casefold()), case)
        owners = (own, *self._beginning((slide.slide, *files)))
        return None, next((owner for owner in owners if owner is not None), None)

    def _beginning(self, texts: Iterable[str]) -> Iterable[str | None]:
        return (_in_case(_longest(self._patients, text), text) for text in texts)


def _in_case(names: Sequence[str] | None, text: str) -> str | None:
    """Return the only one of some names, else the one with which a text begins, or None."""
    if names is None or len(names) == 1:
        return names[0] if names else None
    return next((name for name in names if text.startswith(name)), None)


def _found(claims: _Claims, names: _Names, case: str, slide: SlideRow) -> bool:
    """Take a slide of the study for that of a patient, and return whether it is anybody's."""
    said, owner = names.of(case, slide)
    if owner is None:
        return False
    if said is not None and said in claims.rows and said != slide.slide:
        slide = _located(claims.rows.pop(said), slide)
        claims.patients[slide.slide] = claims.patients.pop(said)
    elif said is not None and said in claims.rows:
        slide = _located(claims.rows[said], slide)
    claims.rows[slide.slide] = slide
    claims.claim(slide, owner)
    claims.cases.setdefault(owner, set()).add(case)
    return True


def _longest(names: Mapping[str, _T], text: str) -> _T | None:
    """Return what the longest of some names means with which a text begins, or None."""
    folded = text.casefold()
    ends = [len(folded), *(i for i in range(len(folded) - 1, 0, -1) if folded[i] in _SEPARATORS)]
    return next((names[folded[:end]] for end in ends if folded[:end] in names), None)


def _located(said: SlideRow, found: SlideRow) -> SlideRow:
    """Return a slide as it was found, with what a table says beside."""
    return replace(
        found,
        slide_path=found.slide_path or said.slide_path,
        feature_path=found.feature_path or said.feature_path,
        mpp=found.mpp or said.mpp,
        feature_facts=found.feature_facts or said.feature_facts,
        label=said.label,
        split=said.split,
        time=said.time,
        event=said.event,
    )


def _links(
    named: Mapping[str, Sequence[SlideRow]], claims: _Claims, of_nobody: list[str]
) -> SlideMatches:
    contested = tuple(slide for slide, patients in claims.patients.items() if len(patients) > 1)
    slides: dict[str, tuple[SlideRow, ...]] = {}
    for slide, patients in claims.patients.items():
        if len(patients) == 1:
            slides[patients[0]] = (*slides.get(patients[0], ()), claims.rows[slide])
    without = tuple(patient for patient in named if patient not in slides)
    scattered = {p: tuple(sorted(some)) for p, some in claims.cases.items() if len(some) > 1}
    cases = _cases(claims.cases)
    return SlideMatches(slides, without, tuple(of_nobody), contested, cases, scattered)


def _cases(found: Mapping[str, set[str]]) -> dict[str, str]:
    """Return the case of each patient that has one to itself and is called otherwise."""
    taken = Counter(case for cases in found.values() for case in cases)
    return {
        patient: case
        for patient, cases in found.items()
        if len(cases) == 1 and taken[case := next(iter(cases))] == 1 and case != patient
    }


def participant(name: str) -> str:
    """Return the participant of a TCGA barcode, "TCGA-A1-A0SK"; empty if it is none."""
    match = _PARTICIPANT.match(name)
    return match[0].upper() if match else ""


def participant_of(patient: str, slide: SlideRow) -> str:
    """Return the participant in the name of a slide, its files or its patient, in this order."""
    stems = (path.stem for path in (slide.slide_path, slide.feature_path) if path is not None)
    return next(filter(None, map(participant, (slide.slide, *stems, patient))), "")


def shared_barcodes(
    patients: Iterable[str], slides: Mapping[str, Sequence[SlideRow]]
) -> tuple[str, ...]:
    """Return "A, B" for patients of several names with one TCGA barcode.

    Parameters
    ----------
    patients
        Their names.
    slides
        By the names of patients.
    """
    names: defaultdict[str, list[str]] = defaultdict(list)
    for patient in dict.fromkeys(patients):
        barcodes = {participant_of(patient, slide) for slide in slides.get(patient, ())}
        for barcode in (barcodes | {participant(patient)}) - {""}:
            names[barcode].append(patient)
    return tuple(", ".join(some) for some in names.values() if len(some) > 1)
