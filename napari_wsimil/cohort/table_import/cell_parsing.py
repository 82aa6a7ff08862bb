"""Cell parsing: numbers, dates, brackets and stages."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


_BRACKET = re.compile(r"(\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)")

_BEYOND = re.compile(r"(<=|>=|<|>|≤|≥|under|over|below|above)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)

_PLUS = re.compile(r"(\d+(?:\.\d+)?)\s*\+")

_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")

_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")

_SCORE = re.compile(r"[0-4]\s*\+")

_DAY = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})")

#: Two digits above this are a year of the last century.
_CENTURY = 50

_ROMAN = {"0": 0, "I": 1, "II": 2, "III": 3, "IV": 4}

_NAMES = ("0", "I", "II", "III", "IV")

_STAGE = re.compile(r"(?:stage\s*)?(IV|I{1,3}|[0-4])\s*([A-D]?)\s*([1-3]?)", re.IGNORECASE)

_TNM = re.compile(
    r"([cpyra]{0,3})([TNM])\s*(is|[0-4])\s*(mi|[a-d]?[1-3]?)\s*(\([a-z ]*[+-]\))?", re.IGNORECASE
)

_GRADE = re.compile(r"(?:grade\s*|G)([1-4]|IV|I{1,3})", re.IGNORECASE)

#: Stages that cannot be assessed, such as TX and MX: known to be unknown.
_UNASSESSED = re.compile(r"[cpyra]{0,3}[TNMG]X|stage\s*X", re.IGNORECASE)


def parse_number(cell: str) -> float | None:
    """Return the finite number in a cell, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def with_point(cell: str, *, decimal: bool) -> str:
    """Return a number with commas as one without.

    Parameters
    ----------
    cell
        Such as "3,14", "1.234,5" or "1,234".
    decimal
        Whether commas stand before decimals; else they part thousands.
    """
    return cell.replace(".", "").replace(",", ".") if decimal else cell.replace(",", "")


def has_comma(cell: str) -> bool:
    """Return whether a cell is a number with commas."""
    return bool(_DECIMAL_COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell))


def commas_are_decimal(cells: Collection[str]) -> bool | None:
    """Return whether commas are decimal; None if unclear."""
    decimal = all(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    thousands = all(_THOUSANDS.fullmatch(cell) for cell in cells)
    return None if decimal == thousands else decimal


def may_part_thousands(cells: Collection[str]) -> bool:
    """Return whether points may separate thousands: 1.240 beside 210."""
    pointed = [cell for cell in cells if "." in cell]
    whole = any(cell.isdigit() for cell in cells)
    return whole and bool(pointed) and all(_POINTS.fullmatch(cell) for cell in pointed)


def is_score(cell: str) -> bool:
    """Return whether a cell is a score such as "2+"."""
    return bool(_SCORE.fullmatch(cell))


def parse_bracket(cell: str) -> tuple[float, float] | None:
    """Return the ends of a bracket: (50, 59) of "50-59"."""
    if match := _BRACKET.fullmatch(cell):
        low, high = float(match[1]), float(match[2])
        return (low, high) if low <= high else None
    if match := _PLUS.fullmatch(cell):
        return float(match[1]), math.inf
    if match := _BEYOND.fullmatch(cell):
        below = match[1].lower() in ("<", "<=", "≤", "under", "below")
        return (-math.inf, float(match[2])) if below else (float(match[2]), math.inf)
    return None


def bracket_middle(cell: str) -> float | None:
    """Return the number in a cell, or a bracket's middle.

    An open bracket has its known end.
    """
    plain = parse_number(cell)
    ends = parse_bracket(cell) if plain is None else None
    if ends is None:
        return plain
    finite = [end for end in ends if math.isfinite(end)]
    return sum(finite) / len(finite)


def bracket_order(cell: str) -> tuple[float, float]:
    """Return the sort key of brackets and numbers, lowest first."""
    return parse_bracket(cell) or (parse_number(cell) or 0.0, parse_number(cell) or 0.0)


def day_first(cells: Collection[str]) -> bool | None:
    """Return whether 27/5/11 begins with the day; None if unclear."""
    parts = [match for cell in cells if (match := _DAY.fullmatch(cell))]
    if any(match[2] == "." or int(match[1]) > 12 for match in parts):
        return True
    return False if any(int(match[3]) > 12 for match in parts) else None


def is_day(cell: str) -> bool:
    """Return whether a cell is a day: 2011-05-27, 27/5/11, 27.5.11."""
    return bool(_iso(cell)) or bool(_DAY.fullmatch(cell))


def parse_day(cell: str, *, first: bool) -> date | None:
    """Return the day in a cell, or None.

    Parameters
    ----------
    cell
        Such as "2011-05-27", "5/27/11" or "27.5.2011"; two digits of a year up to 50 are
        in this century.
    first
        Whether the day comes before the month.
    """
    match = _DAY.fullmatch(cell)
    if match is None:
        return _iso(cell)
    one, other, year = int(match[1]), int(match[3]), int(match[4])
    if len(match[4]) == 2:
        year += 2000 if year <= _CENTURY else 1900
    try:
        return date(year, other, one) if first else date(year, one, other)
    except ValueError:
        return None


def _iso(cell: str) -> date | None:
    try:
        return date.fromisoformat(cell) if cell.count("-") == 2 else None
    except ValueError:
        return None


@dataclass(frozen=True, order=True)
class Stage:
    """A stage: its scale, its rank there, and its name.

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
    """Return whether a stage was not assessable, such as TX."""
    return bool(_UNASSESSED.fullmatch(text.strip()))


def ordered(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the different stages by name, lowest first."""
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
    """Return the rank on the TNM scale.

    Tis is between T0 and T1, N1mi below N1a, isolated cells (i+) above none (i-).
    """
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
