"""Number reading: the numbers in a column, whatever their commas, brackets and units."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Kind
from napari_wsimil.cohort.table_import import cell_parsing as cells
from napari_wsimil.cohort.table_import.headers import DAYS, names_age, unit_of
from napari_wsimil.cohort.table_import.inferred import Reading
from napari_wsimil.cohort.table_import.questions import Question

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import Asked

#: Ages above this are days.
_OLDEST = 150


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
    values = {cell: number for cell in known if (number := cells.middle(points[cell])) is not None}
    brackets = [cell for cell in values if cells.number(points[cell]) is None]
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
    commas = {cell: n for cell, n in known.items() if "," in cell and cells.has_comma(cell)}
    if not commas:
        return _without_points(header, known, asked)
    decimal = cells.commas_are_decimal(commas)
    if decimal is None:
        text = f"{header!r} has numbers such as {next(iter(commas))}: what are the commas?"
        options = ("decimal", "thousands")
        question = Question(f"{header}: commas", text, options, "", commas, header)
        decimal = asked.ask(question) != "thousands"
    return {c: cells.with_point(c, decimal=decimal) if c in commas else c for c in known}


def _without_points(header: str, known: Counter[str], asked: Asked) -> dict[str, str]:
    """Return numbers by cell, having asked whether 1.240 is more than a thousand."""
    if not cells.may_part_thousands(known):
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
