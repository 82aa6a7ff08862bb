"""Matching of a table's patients to a study's slides."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.cohort.manifest import Patient, SlideRow

_T = TypeVar("_T")

#: Separators after a patient's name in a slide's: TCGA-A1-A0SK-01Z-00-DX1.
_SEPARATORS = "-_. "

#: Project, tissue source site and participant: TCGA-A1-A0SK.
_PARTICIPANT = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=$|[^A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class SlideMatches:
    """Slides by patient, and unmatched patients and slides.

    Attributes
    ----------
    slides
        Slides of each patient of the table with a slide.
    without
        Patients without a slide.
    of_nobody
        Names of the study's slides that are of no patient of the table.
    contested
        Names of slides that several patients claim; they are of nobody.
    cases
        Names of patients in the study, where they differ from the table's.
    scattered
        Patients with slides of several cases of the study, and these cases.
    """

    slides: Mapping[str, tuple[SlideRow, ...]]
    without: tuple[str, ...]
    of_nobody: tuple[str, ...]
    contested: tuple[str, ...] = ()
    cases: Mapping[str, str] = field(default_factory=dict)
    scattered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class _Claims:
    """Slides by name, and the patients that claim each."""

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
    """Match slides to the patients of a table.

    A slide belongs to the patient in its row of the table; else to the patient with the name
    of its case; else to the patient with the longest name that begins its own name or its
    file's (so that P1 does not get the slides of P12). Upper and lower case are the same.

    Parameters
    ----------
    named
        Slides in the table, by patient, for all patients.
    cases
        Cases of the study, with their slides.
    """
    claims = _Claims()
    for patient, group in named.items():
        for slide in group:
            claims.claim(slide, patient)
    names = _Names(named, claims.patients)
    of_nobody = [
        slide.slide
        for case in cases
        for slide in case.slides
        if not _assign(claims, names, case.name, slide)
    ]
    return _matches(named, claims, of_nobody)


class _Names:
    """Names of patients and slides, searched by prefix.

    Upper and lower case matter only between names that differ in nothing else.
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
        """Return the table's name and patient of a slide."""
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
    """Return the only name, else the prefix of a text."""
    if names is None or len(names) == 1:
        return names[0] if names else None
    return next((name for name in names if text.startswith(name)), None)


def _assign(claims: _Claims, names: _Names, case: str, slide: SlideRow) -> bool:
    """Assign a study's slide; return whether a patient matches."""
    name, owner = names.of(case, slide)
    if owner is None:
        return False
    if name is not None and name in claims.rows and name != slide.slide:
        slide = _joined(claims.rows.pop(name), slide)
        claims.patients[slide.slide] = claims.patients.pop(name)
    elif name is not None and name in claims.rows:
        slide = _joined(claims.rows[name], slide)
    claims.rows[slide.slide] = slide
    claims.claim(slide, owner)
    claims.cases.setdefault(owner, set()).add(case)
    return True


def _longest(names: Mapping[str, _T], text: str) -> _T | None:
    """Return the value of the longest prefix of a text."""
    folded = text.casefold()
    ends = [len(folded), *(i for i in range(len(folded) - 1, 0, -1) if folded[i] in _SEPARATORS)]
    return next((names[folded[:end]] for end in ends if folded[:end] in names), None)


def _joined(row: SlideRow, slide: SlideRow) -> SlideRow:
    """Return a slide of the study with the table's values."""
    return replace(
        slide,
        slide_path=slide.slide_path or row.slide_path,
        feature_path=slide.feature_path or row.feature_path,
        mpp=slide.mpp or row.mpp,
        feature_facts=slide.feature_facts or row.feature_facts,
        label=row.label,
        split=row.split,
        time=row.time,
        event=row.event,
    )


def _matches(
    named: Mapping[str, Sequence[SlideRow]], claims: _Claims, of_nobody: list[str]
) -> SlideMatches:
    contested = tuple(slide for slide, patients in claims.patients.items() if len(patients) > 1)
    slides: dict[str, tuple[SlideRow, ...]] = {}
    for slide, patients in claims.patients.items():
        if len(patients) == 1:
            slides[patients[0]] = (*slides.get(patients[0], ()), claims.rows[slide])
    without = tuple(patient for patient in named if patient not in slides)
    scattered = {p: tuple(sorted(group)) for p, group in claims.cases.items() if len(group) > 1}
    cases = _cases(claims.cases)
    return SlideMatches(slides, without, tuple(of_nobody), contested, cases, scattered)


def _cases(by_patient: Mapping[str, set[str]]) -> dict[str, str]:
    """Return cases of patients named otherwise in the study."""
    taken = Counter(case for cases in by_patient.values() for case in cases)
    return {
        patient: case
        for patient, cases in by_patient.items()
        if len(cases) == 1 and taken[case := next(iter(cases))] == 1 and case != patient
    }


def participant(name: str) -> str:
    """Return the participant of a TCGA barcode, such as "TCGA-A1-A0SK"."""
    match = _PARTICIPANT.match(name)
    return match[0].upper() if match else ""


def participant_of(patient: str, slide: SlideRow) -> str:
    """Return the participant in names of slide, files or patient."""
    stems = (path.stem for path in (slide.slide_path, slide.feature_path) if path is not None)
    return next(filter(None, map(participant, (slide.slide, *stems, patient))), "")


def shared_barcodes(
    patients: Iterable[str], slides: Mapping[str, Sequence[SlideRow]]
) -> tuple[str, ...]:
    """Return "A, B" for patients that share a TCGA barcode.

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
    return tuple(", ".join(group) for group in names.values() if len(group) > 1)
