"""Linking: which slide is whose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.study.manifest import SlideRow

#: What may follow a patient's name in the name of a slide: TCGA-A1-A0SK-01Z-00-DX1.
_SEPARATORS = "-_. "


@dataclass(frozen=True)
class Links:
    """Slides by patient, and what is left over.

    Attributes
    ----------
    slides
        Those of each patient that has some.
    without
        Patients without a slide.
    of_nobody
        Names of slides that are of no patient of the table.
    contested
        Names of slides that several patients claim; they are of nobody.
    """

    slides: Mapping[str, tuple[SlideRow, ...]]
    without: tuple[str, ...]
    of_nobody: tuple[str, ...]
    contested: tuple[str, ...] = ()


def link(named: Mapping[str, Sequence[SlideRow]], slides: Iterable[SlideRow] = ()) -> Links:
    """Return which slide is whose.

    A slide belongs to the patient beside whom a table names it, or whose name its own
    begins with, whatever the case (the longest such name, so that P1 has not P12's).

    Parameters
    ----------
    named
        What a table says: slides by patient, for every patient of it.
    slides
        Further slides, such as those of a folder.
    """
    claims: dict[str, list[str]] = {}
    rows: dict[str, SlideRow] = {}
    for patient, some in named.items():
        for slide in some:
            rows.setdefault(slide.slide, slide)
            if patient not in claims.setdefault(slide.slide, []):
                claims[slide.slide].append(patient)
    names = _Names(named, claims)
    of_nobody, located = [], set()
    for slide in slides:
        key, owner = names.of(slide.slide)
        if owner is None:
            of_nobody.append(slide.slide)
        elif key in rows and key not in located:
            rows[key] = _located(rows[key], slide)
            located.add(key)
        else:
            rows[slide.slide], claims[slide.slide] = slide, [owner]
    return _links(named, claims, rows, of_nobody)


class _Names:
    """The names of patients and slides of a table, found by what a name begins with."""

    def __init__(self, named: Iterable[str], claims: Mapping[str, list[str]]) -> None:
        self._patients = {patient.casefold(): patient for patient in named}
        self._slides = {slide.casefold(): slide for slide in claims}
        self._claims = claims

    def of(self, slide: str) -> tuple[str, str | None]:
        """Return the name under which the table has a slide, and the patient of it."""
        known = _longest(self._slides, slide)
        if known is not None:
            return known, self._claims[known][0]
        return slide, _longest(self._patients, slide)


def _longest(names: Mapping[str, str], text: str) -> str | None:
    """Return the longest of some names with which a text begins, None if there is none."""
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
    )


def _links(
    named: Mapping[str, Sequence[SlideRow]],
    claims: Mapping[str, list[str]],
    rows: Mapping[str, SlideRow],
    of_nobody: list[str],
) -> Links:
    contested = tuple(slide for slide, patients in claims.items() if len(patients) > 1)
    slides: dict[str, tuple[SlideRow, ...]] = {}
    for slide, patients in claims.items():
        if len(patients) == 1:
            slides[patients[0]] = (*slides.get(patients[0], ()), rows[slide])
    without = tuple(patient for patient in named if patient not in slides)
    return Links(slides, without, tuple(of_nobody), contested)
