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
from napari_wsimil.cohort.table_import.event_inference import infer_event, infer_flags
from napari_wsimil.cohort.table_import.questions import ColumnCells, Parsed, ParsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import ImportQuestion, Questions

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


def infer_type(cells: ColumnCells) -> Parsed:
    """Infer values of a column; None for identifiers and text.

    The first kind that fits is taken, from flags and dates to categories.

    Parameters
    ----------
    cells
        Cells of the column, without words for absence.
    """
    questions: Questions = ()
    for infer_kind in _KINDS:
        parsed, further = infer_kind(cells)
        questions += further
        if parsed is not None:
            return parsed, questions
    return None, questions


def infer_days(cells: ColumnCells) -> Parsed:
    """Infer days; None if a cell is no day.

    Where day and month could be swapped, their order is a question.
    """
    if not all(is_day(cell) for cell in cells.counts):
        return None, ()
    written = [cell for cell in cells.counts if "/" in cell or "." in cell]
    is_first = day_first(written) if written else True
    questions: Questions = ()
    if is_first is None:
        question = _order_question(cells, written[0])
        is_first, questions = cells.answers.to(question) == "day first", (question,)
    days = {cell: parse_day(cell, first=is_first) for cell in cells.counts}
    values: dict[str, Value] = {cell: day for cell, day in days.items() if day is not None}
    order = "day" if is_first else "month"
    remarks = (f"dates are read with the {order} first",) if written else ()
    return ParsedColumn(Kind.DATE, values, remarks=remarks), questions


def _order_question(cells: ColumnCells, example: str) -> ImportQuestion:
    text = f"{cells.header!r} has dates such as {example}. Is day or month first?"
    return cells.question("order", text, ("day first", "month first"))


def infer_stages(cells: ColumnCells) -> Parsed:
    """Infer stages on one ordered scale; None for other values."""
    named = names_stage(cells.header)
    parsed = {cell: stage_of(cell, named=named) for cell in cells.counts}
    stages = {cell: stage for cell, stage in parsed.items() if stage is not None}
    unassessed: dict[str, Value] = {c: Absent.UNKNOWN for c in cells.counts if is_unassessed(c)}
    if not stages or len(stages) + len(unassessed) < len(cells.counts):
        return None, ()
    if len({stage.scale for stage in stages.values()}) > 1:
        return None, ()
    values = {cell: stage.name for cell, stage in stages.items()} | unassessed
    remarks = _stage_remarks(stages, unassessed)
    return ParsedColumn(Kind.ORDINAL, values, _levels(stages.values()), remarks=remarks), ()


def _stage_remarks(stages: Mapping[str, Stage], unassessed: Mapping[str, Value]) -> tuple[str, ...]:
    renamed = [f"{cell} means {stage.name}" for cell, stage in stages.items() if cell != stage.name]
    unknown = [f"{cell} cannot be assessed: unknown" for cell in unassessed]
    return tuple(", ".join(part[:6]) for part in (renamed, unknown) if part)


def _levels(stages: Iterable[Stage]) -> tuple[str, ...]:
    present = set(stages)
    scale = next(iter(present)).scale
    usual = {stage for name in _LEVELS[scale] if (stage := stage_of(name)) is not None}
    return ordered(present | usual)


def _infer_named_stages(cells: ColumnCells) -> Parsed:
    """Infer stages of a column named so, bare numbers included."""
    return infer_stages(cells) if names_stage(cells.header) else (None, ())


def _infer_numbers_or_brackets(cells: ColumnCells) -> Parsed:
    known = cells.counts
    odd = {c: n for c, n in known.items() if parse_number(c) is None and not has_comma(c)}
    numeric = known.total() - sum(odd.values())
    brackets = sum(n for cell, n in odd.items() if parse_bracket(cell) is not None)
    if numeric + brackets < (1 - _FEW) * known.total() or not numeric + brackets:
        return None, ()
    if numeric + brackets < known.total() and len(known) < _SEVERAL:
        return None, ()  # codes such as 0, 1, equivocal
    if not brackets:
        return infer_numbers(cells)
    question = _brackets_question(cells, has_numbers=bool(numeric))
    if cells.answers.to(question) != "numbers":
        return _ordered_brackets(cells), (question,)
    parsed, questions = infer_numbers(cells)
    return parsed, (question, *questions)


def _brackets_question(cells: ColumnCells, *, has_numbers: bool) -> ImportQuestion:
    brackets = {cell: n for cell, n in cells.counts.items() if parse_bracket(cell) is not None}
    text = f"{cells.header!r} has intervals such as {next(iter(brackets))}. Read them as numbers?"
    is_numeric = has_numbers and not all(is_score(cell) for cell in brackets)
    options = ("numbers", "ordered categories")
    default = "numbers" if is_numeric else "ordered categories"
    return cells.question("brackets", text, options, default, brackets)


def _ordered_brackets(cells: ColumnCells) -> ParsedColumn:
    readable = [cell for cell in cells.counts if bracket_middle(cell) is not None]
    levels = tuple(sorted(readable, key=bracket_order))
    values = {cell: cell for cell in readable}
    return ParsedColumn(Kind.ORDINAL, values, levels, unit_of(cells.header))


def _infer_categories(cells: ColumnCells) -> Parsed:
    known = cells.counts
    spelled: dict[str, str] = {}
    for cell, _ in known.most_common():
        spelled.setdefault(cell.casefold(), cell)
    if len(spelled) > min(MOST_CATEGORIES, max(2, known.total() // 2)):
        return None, ()
    merged = len(known) - len(spelled)
    remarks = (f"{merged} spellings differ only in upper and lower case",) if merged else ()
    values = {cell: spelled[cell.casefold()] for cell in known}
    levels = tuple(sorted(spelled.values()))
    return ParsedColumn(Kind.CATEGORY, values, levels, remarks=remarks), ()


def infer_numbers(cells: ColumnCells, unit: str | None = None) -> tuple[ParsedColumn, Questions]:
    """Return the numbers in a column, brackets as their middle.

    Decimal commas are understood; "1,234" is a question where commas may separate thousands.
    Lengths of time are converted to `unit`; without one the unit is a question, by default
    the column's own.
    """
    points, questions = _with_points(cells)
    numbers = {cell: bracket_middle(points[cell]) for cell in cells.counts}
    values: dict[str, Value] = {c: number for c, number in numbers.items() if number is not None}
    remarks = _number_remarks(cells, points, values)
    parsed = _aged(
        cells.header, ParsedColumn(Kind.NUMBER, values, (), unit_of(cells.header), remarks)
    )
    if parsed.unit not in DAYS:
        return parsed, questions
    if unit is None:
        question = _unit_question(cells, parsed.unit)
        unit, questions = cells.answers.to(question), (*questions, question)
    return _converted(parsed, unit), questions


def _number_remarks(
    cells: ColumnCells, points: Mapping[str, str], values: Mapping[str, Value]
) -> tuple[str, ...]:
    commas = sum(cells.counts[cell] for cell in values if points[cell] != cell)
    brackets = sum(cells.counts[cell] for cell in values if parse_number(points[cell]) is None)
    remarks = (
        f"{commas} numbers have commas" if commas else "",
        f"{brackets} intervals were replaced by their middle or known end" if brackets else "",
    )
    return tuple(filter(None, remarks))


def plausible_range(values: Iterable[Value]) -> tuple[float, float] | None:
    """Return the range of numbers, rounded outward; None if constant."""
    numbers = [value for value in values if isinstance(value, float)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if low == high:
        return None
    step = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    ends = math.floor(low / step) * step, math.ceil(high / step) * step
    return float(f"{ends[0]:.6g}"), float(f"{ends[1]:.6g}")


def _with_points(cells: ColumnCells) -> tuple[dict[str, str], Questions]:
    """Return numbers with decimal points only, by cell."""
    commas = {cell: n for cell, n in cells.counts.items() if "," in cell and has_comma(cell)}
    if not commas:
        return _without_thousands(cells)
    questions: Questions = ()
    is_decimal = commas_are_decimal(commas)
    if is_decimal is None:
        text = f"{cells.header!r} has numbers such as {next(iter(commas))}. How are commas used?"
        question = cells.question("commas", text, ("decimal", "thousands"), "", commas)
        is_decimal, questions = cells.answers.to(question) != "thousands", (question,)
    points = {c: with_point(c, decimal=is_decimal) if c in commas else c for c in cells.counts}
    return points, questions


def _without_thousands(cells: ColumnCells) -> tuple[dict[str, str], Questions]:
    """Return numbers by cell; 1.240 may be 1240: a question."""
    if not may_part_thousands(cells.counts):
        return {cell: cell for cell in cells.counts}, ()
    pointed = {cell: n for cell, n in cells.counts.items() if "." in cell}
    example = next(iter(pointed))
    text = f"{cells.header!r} has whole numbers and others such as {example}. How are points used?"
    question = cells.question("points", text, ("decimal", "thousands"), "", pointed)
    if cells.answers.to(question) != "thousands":
        return {cell: cell for cell in cells.counts}, (question,)
    return {cell: cell.replace(".", "") for cell in cells.counts}, (question,)


def _aged(header: str, parsed: ParsedColumn) -> ParsedColumn:
    """Return ages, in days if too high for years."""
    numbers = sorted(value for value in parsed.values.values() if isinstance(value, float))
    high = bool(numbers) and numbers[len(numbers) // 2] > _OLDEST
    if not (names_age(header) and parsed.unit == "years" and high):
        return parsed
    remarks = (*parsed.remarks, "ages this high are read as days")
    return replace(parsed, unit="days", remarks=remarks)


def _unit_question(cells: ColumnCells, unit: str) -> ImportQuestion:
    text = f"{cells.header!r} is in {unit}. In which unit should it be stored?"
    return cells.question("unit", text, tuple(DAYS), unit)


def _converted(parsed: ParsedColumn, unit: str) -> ParsedColumn:
    if unit == parsed.unit or unit not in DAYS:
        return parsed
    factor = DAYS[parsed.unit] / DAYS[unit]
    values = {c: v * factor for c, v in parsed.values.items() if isinstance(v, float)}
    remark = f"converted from {parsed.unit} to {unit} (a month has {DAYS['months']:g} days)"
    return replace(parsed, values=values, unit=unit, remarks=(*parsed.remarks, remark))


_KINDS: tuple[Callable[[ColumnCells], Parsed], ...] = (
    infer_event,
    infer_flags,
    infer_days,
    _infer_named_stages,
    _infer_numbers_or_brackets,
    infer_stages,
    _infer_categories,
)
