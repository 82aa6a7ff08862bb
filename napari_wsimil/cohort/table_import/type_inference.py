"""Type inference: the kind of values in a column."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.cohort.headers import (
    DAYS,
    names_age,
    names_stage,
    unit_of,
)
from napari_wsimil.cohort.table_import.cell_parsing import (
    Reading,
    Stage,
    bracket_middle,
    bracket_order,
    commas_are_decimal,
    day_first,
    has_comma,
    is_day,
    is_score,
    is_unassessed,
    may_part_thousands,
    ordered,
    parse_bracket,
    parse_day,
    parse_number,
    stage_of,
    with_point,
)
from napari_wsimil.cohort.table_import.event_inference import _flags, event_of
from napari_wsimil.cohort.table_import.questions import Question

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import Asked

#: A column of more different words than this is free text or an identifier.
MOST_CATEGORIES = 32

#: Cells that are no numbers may be at most this share of a column of numbers.
_FEW = 0.2

#: In a column of fewer different cells, numbers beside words are codes.
_SEVERAL = 10

#: The levels of a scale that everybody knows, whether a table has them or not.
_LEVELS = {
    "stage": ("Stage I", "Stage II", "Stage III", "Stage IV"),
    "T": ("T1", "T2", "T3", "T4"),
    "N": ("N0", "N1", "N2", "N3"),
    "M": ("M0", "M1"),
    "grade": ("G1", "G2", "G3"),
}

#: Ages above this are days.
_OLDEST = 150


def reading_of(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return what the cells of a column mean, None for identifiers and free text.

    Parameters
    ----------
    header
        Name of the column.
    known
        How often each cell is there, without words for absence.
    asked
        Takes what is ambiguous.
    """
    return next((r for read in _READINGS if (r := read(header, known, asked)) is not None), None)


def days_of(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return the days in a column; None if one is no day. Asks which part is the month."""
    if not all(is_day(cell) for cell in known):
        return None
    written = [cell for cell in known if "/" in cell or "." in cell]
    first = day_first(written) if written else True
    if first is None:
        text = f"{header!r} has days such as {written[0]}: what comes first?"
        options = ("day first", "month first")
        answer = asked.ask(Question(f"{header}: order", text, options, column=header))
        first = answer == "day first"
    values = {c: found for c in known if (found := parse_day(c, first=first)) is not None}
    remarks = (f"days are read with the {'day' if first else 'month'} first",) if written else ()
    return Reading(Kind.DATE, values, remarks=remarks)


def stages_of(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return the stages in a column on one ordered scale; None if it holds something else."""
    named = names_stage(header)
    found = {c: stage for c in known if (stage := stage_of(c, named=named)) is not None}
    unassessed: dict[str, Value] = {c: Absent.UNKNOWN for c in known if is_unassessed(c)}
    if not found or len(found) + len(unassessed) < len(known):
        return None
    if len({stage.scale for stage in found.values()}) > 1:
        return None
    values = {cell: stage.name for cell, stage in found.items()} | unassessed
    return Reading(Kind.ORDINAL, values, _levels(found.values()), remarks=_told(found, unassessed))


def _told(found: Mapping[str, Stage], unassessed: Mapping[str, Value]) -> tuple[str, ...]:
    said = [f"{cell} means {stage.name}" for cell, stage in found.items() if cell != stage.name]
    words = [f"{cell} cannot be assessed: unknown" for cell in unassessed]
    return tuple(", ".join(part[:6]) for part in (said, words) if part)


def _levels(stages: Iterable[Stage]) -> tuple[str, ...]:
    present = set(stages)
    scale = next(iter(present)).scale
    usual = {stage for name in _LEVELS[scale] if (stage := stage_of(name)) is not None}
    return ordered(present | usual)


def _staged(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return the stages of a column that is called so: its bare numbers are no numbers."""
    return stages_of(header, known, asked) if names_stage(header) else None


def _numbers(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    odd = {c: n for c, n in known.items() if parse_number(c) is None and not has_comma(c)}
    numeric = known.total() - sum(odd.values())
    brackets = sum(n for cell, n in odd.items() if parse_bracket(cell) is not None)
    if numeric + brackets < (1 - _FEW) * known.total() or not numeric + brackets:
        return None
    if numeric + brackets < known.total() and len(known) < _SEVERAL:
        return None  # codes such as 0, 1, equivocal
    if brackets and (ordinal := _brackets(header, known, numeric, asked)) is not None:
        return ordinal
    return numbers_of(header, known, asked)


def _brackets(header: str, known: Counter[str], numeric: int, asked: Asked) -> Reading | None:
    found = {cell: n for cell, n in known.items() if parse_bracket(cell) is not None}
    text = f"{header!r} has brackets such as {next(iter(found))}: what are they?"
    ends = numeric and not all(is_score(cell) for cell in found)
    default = "numbers" if ends else "ordered categories"
    options = ("numbers", "ordered categories")
    answer = asked.ask(Question(f"{header}: brackets", text, options, default, found, header))
    if answer == "numbers":
        return None
    readable = [cell for cell in known if bracket_middle(cell) is not None]
    levels = tuple(sorted(readable, key=bracket_order))
    return Reading(Kind.ORDINAL, {cell: cell for cell in readable}, levels, unit_of(header))


def _categories(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    spelled: dict[str, str] = {}
    for cell, _ in known.most_common():
        spelled.setdefault(cell.casefold(), cell)
    if len(spelled) > min(MOST_CATEGORIES, max(2, known.total() // 2)):
        return None
    merged = len(known) - len(spelled)
    told = (f"{merged} spellings differ from others in case alone",) if merged else ()
    values = {cell: spelled[cell.casefold()] for cell in known}
    return Reading(Kind.CATEGORY, values, tuple(sorted(spelled.values())), remarks=told)


def numbers_of(
    header: str, known: Counter[str], asked: Asked, unit: str | None = None
) -> Reading | None:
    """Return the numbers in a column, brackets among them as their middle, or None.

    Decimal commas are understood; "1,234" is asked about where commas may part thousands.
    Lengths of time come in `unit`; where none is given it is asked, the column's own by
    default.
    """
    points = _pointed(header, known, asked)
    if points is None:
        return None
    values = {
        cell: number for cell in known if (number := bracket_middle(points[cell])) is not None
    }
    brackets = [cell for cell in values if parse_number(points[cell]) is None]
    remarks = [f"{sum(known[c] for c in brackets)} brackets became their middle, or known end"]
    if commas := sum(known[cell] for cell in values if points[cell] != cell):
        remarks.insert(0, f"{commas} numbers are written with commas")
    kept = tuple(remarks if brackets else remarks[:-1])
    reading = _aged(header, Reading(Kind.NUMBER, values, (), unit_of(header), kept))
    if reading.unit not in DAYS:
        return reading
    return _converted(reading, _unit(header, reading.unit, asked) if unit is None else unit)


def plausible_range(values: Iterable[Value]) -> tuple[float, float] | None:
    """Return the range of some numbers, its ends rounded outward; None if all are the same."""
    numbers = [value for value in values if isinstance(value, float)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if low == high:
        return None
    step = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    ends = math.floor(low / step) * step, math.ceil(high / step) * step
    return float(f"{ends[0]:.6g}"), float(f"{ends[1]:.6g}")


def _pointed(header: str, known: Counter[str], asked: Asked) -> dict[str, str] | None:
    commas = {cell: n for cell, n in known.items() if "," in cell and has_comma(cell)}
    if not commas:
        return _without_points(header, known, asked)
    decimal = commas_are_decimal(commas)
    if decimal is None:
        text = f"{header!r} has numbers such as {next(iter(commas))}: what are the commas?"
        options = ("decimal", "thousands")
        question = Question(f"{header}: commas", text, options, "", commas, header)
        decimal = asked.ask(question) != "thousands"
    return {c: with_point(c, decimal=decimal) if c in commas else c for c in known}


def _without_points(header: str, known: Counter[str], asked: Asked) -> dict[str, str]:
    """Return numbers by cell, having asked whether 1.240 is more than a thousand."""
    if not may_part_thousands(known):
        return {cell: cell for cell in known}
    pointed = {cell: n for cell, n in known.items() if "." in cell}
    text = (
        f"{header!r} has whole numbers and some such as {next(iter(pointed))}: what is the point?"
    )
    options = ("decimal", "thousands")
    answer = asked.ask(Question(f"{header}: points", text, options, "", pointed, header))
    return {c: c.replace(".", "") if answer == "thousands" else c for c in known}


def _aged(header: str, reading: Reading) -> Reading:
    """Return the reading of ages, in days if they are too high for years."""
    numbers = sorted(value for value in reading.values.values() if isinstance(value, float))
    high = bool(numbers) and numbers[len(numbers) // 2] > _OLDEST
    if not (names_age(header) and reading.unit == "years" and high):
        return reading
    told = (*reading.remarks, "ages this high are taken for days")
    return replace(reading, unit="days", remarks=told)


def _unit(header: str, unit: str, asked: Asked) -> str:
    text = f"{header!r} is in {unit}: in what shall it be kept?"
    return asked.ask(Question(f"{header}: unit", text, tuple(DAYS), unit, column=header))


def _converted(reading: Reading, unit: str) -> Reading:
    if unit == reading.unit or unit not in DAYS:
        return reading
    factor = DAYS[reading.unit] / DAYS[unit]
    values = {c: v * factor for c, v in reading.values.items() if isinstance(v, float)}
    told = f"{reading.unit} became {unit} (a month has {DAYS['months']:g} days)"
    return replace(reading, values=values, unit=unit, remarks=(*reading.remarks, told))


_READINGS: tuple[Callable[[str, Counter[str], Asked], Reading | None], ...] = (
    event_of,
    _flags,
    days_of,
    _staged,
    _numbers,
    stages_of,
    _categories,
)
