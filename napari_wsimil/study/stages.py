"""Stages: stage, T, N, M and grade in the spellings people use, on one ordered scale each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ROMAN = {"0": 0, "I": 1, "II": 2, "III": 3, "IV": 4}
_NAMES = ("0", "I", "II", "III", "IV")

_STAGE = re.compile(r"(?:stage\s*)?(IV|I{1,3}|[0-4])\s*([A-D]?)\s*([1-3]?)", re.IGNORECASE)
_TNM = re.compile(
    r"([cpyra]{0,3})([TNM])\s*(is|[0-4])\s*(mi|[a-d]?[1-3]?)\s*(\([a-z ]*[+-]\))?", re.IGNORECASE
)
_GRADE = re.compile(r"(?:grade\s*|G)([1-4]|IV|I{1,3})", re.IGNORECASE)

#: What cannot be assessed, such as TX and MX: somebody asked, and it is not known.
_UNASSESSED = re.compile(r"[cpyra]{0,3}[TNMG]X|stage\s*X", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Stage:
    """A place on one scale: which scale, where on it, and how we write it.

    Attributes
    ----------
    scale
        "stage", "T", "N", "M" or "grade"; stages compare within one scale only.
    rank
        Main level first, then substages.
    name
        Such as "Stage IIA", "T1c", "N0 (i-)", "G2".
    """

    scale: str
    rank: tuple[int, str, str]
    name: str


def stage_of(text: str, *, named: bool = False) -> Stage | None:
    """Return the stage that a cell states, or None.

    Parameters
    ----------
    text
        The cell: "Stage IIA", "iia", "II", "T1c", "pT2", "N0 (i-)", "Grade 2".
    named
        Whether the column's name says that it holds stages: a bare "2" is one only then.
    """
    text = " ".join(text.split())
    return _tnm(text) or _grade(text) or _overall(text, named)


def is_unassessed(text: str) -> bool:
    """Return whether a cell says that a stage could not be assessed, as TX does."""
    return bool(_UNASSESSED.fullmatch(text.strip()))


def ordered(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the names of stages of one scale, lowest first, each once."""
    return tuple(stage.name for stage in sorted(set(stages)))


def _overall(text: str, named: bool) -> Stage | None:
    match = _STAGE.fullmatch(text)
    if match is None or not (named or text[0] in "sS" or text[0] in "iI"):
        return None
    main, letter, digit = match[1].upper(), match[2].upper(), match[3]
    level = int(main) if main.isdigit() else _ROMAN[main]
    return Stage("stage", (level, letter, digit), f"Stage {_NAMES[level]}{letter}{digit}")


def _tnm(text: str) -> Stage | None:
    match = _TNM.fullmatch(text)
    if match is None:
        return None
    scale, level, sub, note = match[2].upper(), match[3].lower(), match[4].lower(), match[5] or ""
    name = f"{scale}{level}{sub}{' ' + note.lower() if note else ''}"
    return Stage(scale, _rank(level, sub, note.lower()), name)


def _rank(level: str, sub: str, note: str) -> tuple[int, str, str]:
    """Return Tis between T0 and T1, N1mi below N1a, isolated cells (i+) above none (i-)."""
    if level == "is":
        return 0, "is", ""
    if sub == "mi":
        return int(level), "", sub
    return int(level), sub, note and f"{'1' if '-' in note else '2'}{note}"


def _grade(text: str) -> Stage | None:
    match = _GRADE.fullmatch(text)
    if match is None:
        return None
    level = int(match[1]) if match[1].isdigit() else _ROMAN[match[1].upper()]
    return Stage("grade", (level, "", ""), f"G{level}")
