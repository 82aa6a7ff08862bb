"""Column plan: the field that a column of a table becomes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.cohort.cell_text import AMBIGUOUS, absence
from napari_wsimil.cohort.headers import (
    group_of,
    is_outcome,
    names_age,
    names_censoring,
    names_event,
    names_identifier,
)
from napari_wsimil.cohort.table import Heading
from napari_wsimil.cohort.table_import.cell_parsing import Reading, is_unassessed, stage_of
from napari_wsimil.cohort.table_import.event_inference import (
    CENSORED_TIME_COLUMN,
    EVENT_COLUMN,
    NO_EVENT,
    ORIGIN_COLUMN,
    TIME_COLUMN,
    column_named,
    event_of,
    stated_flags,
)
from napari_wsimil.cohort.table_import.questions import Question
from napari_wsimil.cohort.table_import.type_inference import (
    days_of,
    numbers_of,
    plausible_range,
    reading_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import Asked

#: Answers to what becomes of a column.
FIELD, NOTHING = "field", "nothing"

#: Letters of an abbreviation of a category.
_SHORTEST = 3

#: Ages that can be, in years and days.
_AGES = {"years": (0.0, 120.0), "days": (0.0, 45000.0)}


@dataclass(frozen=True)
class Column:
    """One column of a table as import understands it.

    Attributes
    ----------
    header
        Its name in the table.
    field
        What it becomes; None if it becomes no field.
    why
        Why it becomes no field, or what else it is: "the patients", "empty".
    values
        What each of its cells means.
    absences
        How often each word for absence is there.
    remarks
        What else was understood, in sentences.
    happened
        Whether an event happened, by cell; empty where the column says nothing of one.
    times
        The cells of a column of numbers as numbers, also those that its field refuses.
    unit
        Unit of the times.
    """

    header: str
    field: Field | None = None
    why: str = ""
    values: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    absences: Mapping[str, int] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    happened: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    times: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unit: str = ""


def draft(
    header: str,
    counts: Counter[str],
    asked: Asked,
    *,
    known_field: Field | None = None,
    heading: Heading | None = None,
) -> Column:
    """Return what a column becomes.

    Parameters
    ----------
    header
        Its name.
    counts
        How often each cell is there.
    asked
        Takes what is ambiguous, and has the answer to "NA".
    known_field
        The field of a schema that the column is of; otherwise one is drafted.
    heading
        What the file says of the column.
    """
    absent = _absences(counts, asked)
    known = Counter({cell: n for cell, n in counts.items() if cell not in absent})
    column = Column(header, values=absent, absences={cell: counts[cell] for cell in absent})
    if known_field is not None:
        return _as_field(column, known_field, known, asked)
    if not known:
        return replace(column, why="empty" if set(absent) <= {""} else "nothing is known in it")
    reading = _as_outcome_column(header, known, asked) or reading_of(header, known, asked)
    if reading is None:
        why = f"{len(known)} different words: identifiers or free text"
        return replace(column, why=why)
    column = _with_outcome(_with_values(column, reading, known, asked), reading, asked)
    column = _with_flags(column, reading.kind)
    return _kept(column, _drafted(header, reading, heading or Heading()), known, asked)


def _with_flags(column: Column, kind: Kind) -> Column:
    """Return the column; a flag says what its cells state, whichever of them is the event."""
    if kind is not Kind.BOOLEAN or not column.happened:
        return column
    return replace(column, values={**column.values, **stated_flags(column.header, column.happened)})


def _as_outcome_column(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return the reading of a column that was answered as the time or event of the outcome."""
    if column_named(EVENT_COLUMN, asked) == header:
        return event_of(header, known, asked)
    keys = (TIME_COLUMN, CENSORED_TIME_COLUMN, ORIGIN_COLUMN)
    if header not in {column_named(key, asked) for key in keys}:
        return None
    return days_of(header, known, asked) or numbers_of(header, known, asked)


def _with_outcome(column: Column, reading: Reading, asked: Asked) -> Column:
    """Return the column with its times, or whether an event happened, by cell."""
    if reading.kind is Kind.NUMBER:
        times = {c: v for c, v in reading.values.items() if isinstance(v, float)}
        return replace(column, times=times, unit=reading.unit)
    key = f"{column.header}: event"
    question = next((one for one in asked.questions if one.key == key), None)
    if question is not None:
        has_event = question.answer(asked.answers) not in ("", NO_EVENT)
    else:  # the flag of a schema, which was asked about when it was drafted
        has_event = column.field is not None and names_event(column.header)
    if not has_event:
        return column
    happened = {c: v for c, v in reading.values.items() if isinstance(v, bool)}
    return replace(column, happened=happened)


def is_use(question: Question) -> bool:
    """Return whether a question is what becomes of a column."""
    return question.options == (FIELD, NOTHING)


def ask_of_na(counts: Counter[str], asked: Asked) -> None:
    """Ask what "NA" means, if a table has it; `counts` are over the whole table."""
    found = {cell: n for cell, n in counts.items() if cell.casefold() in AMBIGUOUS}
    if found:
        spelled = ", ".join(sorted(found))
        text = f"What does {spelled} mean: not available (missing), unknown, or not applicable?"
        asked.ask(Question("NA", text, tuple(kind.value for kind in Absent), "", found))


def _absences(counts: Counter[str], asked: Asked) -> dict[str, Value]:
    na = Absent(asked.answers.get("NA", Absent.MISSING.value))
    found = {c: na if c.casefold() in AMBIGUOUS else absence(c) for c in counts}
    return {cell: kind for cell, kind in found.items() if kind is not None}


def _with_values(column: Column, reading: Reading, known: Counter[str], asked: Asked) -> Column:
    """Return the column with the cells' values; what is of another kind is asked about."""
    others = {cell: n for cell, n in known.items() if cell not in reading.values}
    values = {**column.values, **reading.values}
    remarks = (*column.remarks, *reading.remarks)
    if others:
        header, words = column.header, ", ".join(list(others)[:5])
        text = f"{header!r} is a {reading.kind.value}, which {words} is not: what are such cells?"
        options = (Absent.MISSING.value, Absent.UNKNOWN.value)
        question = Question(f"{header}: others", text, options, "", others, header)
        kind = Absent(asked.ask(question) or Absent.UNKNOWN.value)
        values |= dict.fromkeys(others, kind)
        remarks = (*remarks, f"{sum(others.values())} cells are none: {words}")
    return replace(column, values=values, remarks=remarks)


def _drafted(header: str, reading: Reading, heading: Heading) -> Field:
    number = reading.kind is Kind.NUMBER
    title = "" if heading.title == header else heading.title
    return Field(
        name=header,
        kind=reading.kind,
        group=group_of(heading.title or header),
        unit=reading.unit if number else "",
        hard=_AGES.get(reading.unit) if number and names_age(header) else None,
        plausible=plausible_range(reading.values.values()) if number else None,
        values=reading.levels,
        description=heading.description or title,
        outcome=is_outcome(header) or is_outcome(heading.title),
    )


def _kept(column: Column, drafted: Field, known: Counter[str], asked: Asked) -> Column:
    """Return the column as a field, or none where it says nothing and nobody wants it."""
    header = column.header
    why = ""
    if len({cell.casefold() for cell in known}) == 1 and not column.absences:
        why = f"the same in every row: {next(iter(known))!r}"
    elif names_identifier(header):
        why = "an identifier"
    text = f"What does {header!r} become?"
    default = NOTHING if why else FIELD
    question = Question(f"{header}: use", text, (FIELD, NOTHING), default, column=header)
    if asked.ask(question) == NOTHING:
        return replace(column, why=why or "left out")
    return replace(column, field=drafted)


def _as_field(column: Column, known_field: Field, known: Counter[str], asked: Asked) -> Column:
    """Return the column read as a field that a schema has."""
    reading = _reading_as(column.header, known_field, known, asked)
    fitting = {cell: v for cell, v in reading.values.items() if _fits(known_field, v)}
    column = _with_values(column, replace(reading, values=fitting), known, asked)
    column = replace(column, field=known_field)
    column = _with_outcome(column, _event_beside(column.header, reading, known, asked), asked)
    column = _with_flags(column, known_field.kind)
    if reading.unit and reading.unit != known_field.unit:
        told = f"{reading.unit} taken for {known_field.unit or 'no unit'}, as the schema has it"
        column = replace(column, remarks=(*column.remarks, told))
    return column


def _event_beside(header: str, reading: Reading, known: Counter[str], asked: Asked) -> Reading:
    """Return the event that a column of categories of a schema states too, else its reading."""
    if reading.kind not in (Kind.CATEGORY, Kind.ORDINAL):
        return reading
    return event_of(header, known, asked) or reading


def _reading_as(header: str, known_field: Field, known: Counter[str], asked: Asked) -> Reading:
    empty = Reading(known_field.kind, {})
    if known_field.kind is Kind.NUMBER:
        return numbers_of(header, known, asked, known_field.unit) or empty
    if known_field.kind is Kind.DATE:
        return days_of(header, known, asked) or empty
    if known_field.kind is Kind.BOOLEAN and not _is_spelled(header, known):
        event = event_of(header, known, asked, "1" if _is_exported(header, known) else "")
        if event is not None:
            return event
    values = {c: v for c in known if (v := _word(known_field, c)) is not None}
    spelled = [f"{c} means {v}" for c, v in values.items() if str(v).casefold() != c.casefold()]
    empty = replace(
        empty, remarks=(", ".join(spelled[:6]),) if spelled and _named(known_field) else ()
    )
    return replace(empty, values=values)


def _is_spelled(header: str, known: Counter[str]) -> bool:
    """Return whether yes and no are of the field alone, and of no event that may have happened."""
    words = all(cell.casefold() in ("yes", "no", "true", "false") for cell in known)
    return words and not names_event(header)


def _is_exported(header: str, known: Counter[str]) -> bool:
    """Return whether a flag that a study has is one of its exports, where 1 is the event."""
    is_named = header.isupper() and header.endswith("_STATUS") and not names_censoring(header)
    return is_named and "1" in known and set(known) <= {"0", "1"}


def _word(known_field: Field, cell: str) -> Value | None:
    """Return the category or flag of a schema that a cell means, stages in any spelling."""
    try:
        return known_field.parse(cell)
    except RecordError:
        pass
    if known_field.kind is not Kind.ORDINAL:
        return _shortened(known_field, cell)
    if is_unassessed(cell):
        return Absent.UNKNOWN
    stage = stage_of(cell, named=True)
    return next((v for v in known_field.values if stage and stage_of(v, named=True) == stage), None)


def _named(known_field: Field) -> bool:
    return known_field.kind in (Kind.CATEGORY, Kind.ORDINAL)


def _shortened(known_field: Field, cell: str) -> str | None:
    """Return the one category that begins with a cell of three letters or more, as "pos"."""
    short = cell.casefold().rstrip(".")
    found = [value for value in known_field.values if value.casefold().startswith(short)]
    return found[0] if len(found) == 1 and len(short) >= _SHORTEST else None


def _fits(known_field: Field, value: Value) -> bool:
    if known_field.kind is not Kind.NUMBER or known_field.hard is None:
        return True
    low, high = known_field.hard
    return isinstance(value, float) and low <= value <= high
