"""Column plans: the fields that columns become."""

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
from napari_wsimil.cohort.table_import.cell_parsing import is_unassessed, stage_of
from napari_wsimil.cohort.table_import.event_inference import infer_event, stated_flags
from napari_wsimil.cohort.table_import.questions import (
    CENSORED_TIME_COLUMN,
    EVENT_COLUMN,
    FIELD,
    NO_EVENT,
    NOTHING,
    ORIGIN_COLUMN,
    TIME_COLUMN,
    ColumnCells,
    ImportQuestion,
    Parsed,
    ParsedColumn,
    Questions,
)
from napari_wsimil.cohort.table_import.type_inference import (
    infer_days,
    infer_numbers,
    infer_type,
    plausible_range,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table import ColumnHeading
    from napari_wsimil.cohort.table_import.questions import ImportAnswers

#: The fewest letters of an abbreviated category.
_SHORTEST = 3

#: Possible ages, in years and days.
_AGES = {"years": (0.0, 120.0), "days": (0.0, 45000.0)}


@dataclass(frozen=True)
class ColumnPlan:
    """One column of a table, as import understands it.

    Attributes
    ----------
    header
        Name of the column.
    field
        The field it becomes, or None.
    why
        Reason why it becomes no field, or its role: "the patients", "empty".
    values
        Value by cell.
    absences
        Rows by word for absence.
    remarks
        Further interpretations, in sentences.
    events
        Whether the event happened, by cell; empty for a column without events.
    times
        Cells of a column of numbers as numbers, also those that the field refuses.
    unit
        Unit of the times.
    questions
        The questions that the column leaves open, or has answers to.
    """

    header: str
    field: Field | None = None
    why: str = ""
    values: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    absences: Mapping[str, int] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    events: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    times: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unit: str = ""
    questions: Questions = ()

    def question(self, topic: str) -> ImportQuestion | None:
        """Return its question on a topic, such as "event"."""
        key = f"{self.header}: {topic}"
        return next((question for question in self.questions if question.key == key), None)

    def _with(self, *questions: ImportQuestion) -> ColumnPlan:
        return replace(self, questions=(*self.questions, *questions))


def plan_column(
    cells: ColumnCells,
    na: Absent,
    *,
    known_field: Field | None = None,
    heading: ColumnHeading | None = None,
) -> ColumnPlan:
    """Return the plan of a column.

    Parameters
    ----------
    cells
        All cells of the column.
    na
        Meaning of "NA".
    known_field
        Field of a schema that the column has; without it a new field is drafted.
    heading
        Description of the column in the file.
    """
    counts = cells.counts
    absent = _absences(counts, na)
    known = replace(cells, counts=Counter({c: n for c, n in counts.items() if c not in absent}))
    plan = ColumnPlan(cells.header, values=absent, absences={c: counts[c] for c in absent})
    if known_field is not None:
        return _plan_known(plan, known_field, known)
    if not known.counts:
        return replace(plan, why="empty" if set(absent) <= {""} else "nothing is known in it")
    return _plan_new(plan, known, heading)


def _plan_new(plan: ColumnPlan, cells: ColumnCells, heading: ColumnHeading | None) -> ColumnPlan:
    """Return the plan of a column that no schema has."""
    parsed, questions = _parsed_outcome(cells)
    if parsed is None:
        parsed, further = infer_type(cells)
        questions += further
    plan = plan._with(*questions)
    if parsed is None:
        why = f"{len(cells.counts)} different words: identifiers or free text"
        return replace(plan, why=why)
    plan = _with_outcome(_with_values(plan, parsed, cells), parsed, cells)
    plan = _with_flags(plan, parsed.kind)
    return _used(plan, _new_field(plan.header, parsed, heading), cells)


def _parsed_outcome(cells: ColumnCells) -> Parsed:
    """Return the values of the column answered as outcome."""
    answers, header = cells.answers, cells.header
    if answers.column(EVENT_COLUMN) == header:
        return infer_event(cells)
    keys = (TIME_COLUMN, CENSORED_TIME_COLUMN, ORIGIN_COLUMN)
    if header not in {answers.column(key) for key in keys}:
        return None, ()
    days, questions = infer_days(cells)
    return (days, questions) if days is not None else infer_numbers(cells)


def _with_flags(plan: ColumnPlan, kind: Kind) -> ColumnPlan:
    """Return the plan; flags keep their cells' values."""
    if kind is not Kind.BOOLEAN or not plan.events:
        return plan
    return replace(plan, values={**plan.values, **stated_flags(plan.header, plan.events)})


def _with_outcome(plan: ColumnPlan, parsed: ParsedColumn, cells: ColumnCells) -> ColumnPlan:
    """Return the plan with times or events, by cell."""
    if parsed.kind is Kind.NUMBER:
        times = {c: v for c, v in parsed.values.items() if isinstance(v, float)}
        return replace(plan, times=times, unit=parsed.unit)
    question = plan.question("event")
    if question is not None:
        has_event = cells.answers.to(question) not in ("", NO_EVENT)
    else:  # the flag of a schema, which had the question when it was drafted
        has_event = plan.field is not None and names_event(plan.header)
    if not has_event:
        return plan
    return replace(plan, events={c: v for c, v in parsed.values.items() if isinstance(v, bool)})


def na_question(counts: Counter[str]) -> Questions:
    """Return the question on "NA", if any cell has it."""
    words = {cell: n for cell, n in counts.items() if cell.casefold() in AMBIGUOUS}
    if not words:
        return ()
    spelled = ", ".join(sorted(words))
    text = f"What does {spelled} mean: missing (not available), unknown, or not applicable?"
    return (ImportQuestion("NA", text, tuple(kind.value for kind in Absent), "", words),)


def meaning_of_na(questions: Questions, answers: ImportAnswers) -> Absent:
    """Return the meaning of "NA", by default missing."""
    given = [answers.to(question) for question in questions]
    return Absent(given[0]) if given and given[0] else Absent.MISSING


def _absences(counts: Counter[str], na: Absent) -> dict[str, Value]:
    kinds = {c: na if c.casefold() in AMBIGUOUS else absence(c) for c in counts}
    return {cell: kind for cell, kind in kinds.items() if kind is not None}


def _with_values(plan: ColumnPlan, parsed: ParsedColumn, cells: ColumnCells) -> ColumnPlan:
    """Return the plan with values; other cells are a question."""
    others = {cell: n for cell, n in cells.counts.items() if cell not in parsed.values}
    values = {**plan.values, **parsed.values}
    plan = replace(plan, values=values, remarks=(*plan.remarks, *parsed.remarks))
    if not others:
        return plan
    words = ", ".join(list(others)[:5])
    text = f"{plan.header!r} is a {parsed.kind.value}. How should other cells be read ({words})?"
    options = (Absent.MISSING.value, Absent.UNKNOWN.value)
    question = cells.question("others", text, options, "", others)
    kind = Absent(cells.answers.to(question) or Absent.UNKNOWN.value)
    remark = f"{sum(others.values())} cells are no {parsed.kind.value}: {words}"
    values |= dict.fromkeys(others, kind)
    return replace(plan._with(question), values=values, remarks=(*plan.remarks, remark))


def _new_field(header: str, parsed: ParsedColumn, heading: ColumnHeading | None) -> Field:
    is_number = parsed.kind is Kind.NUMBER
    title, description = (heading.title, heading.description) if heading else ("", "")
    return Field(
        name=header,
        kind=parsed.kind,
        group=group_of(title or header),
        unit=parsed.unit if is_number else "",
        hard=_AGES.get(parsed.unit) if is_number and names_age(header) else None,
        plausible=plausible_range(parsed.values.values()) if is_number else None,
        values=parsed.levels,
        description=description or ("" if title == header else title),
        outcome=is_outcome(header) or is_outcome(title),
    )


def _used(plan: ColumnPlan, field: Field, cells: ColumnCells) -> ColumnPlan:
    """Return the plan with its field, unless left out."""
    why = ""
    if len({cell.casefold() for cell in cells.counts}) == 1 and not plan.absences:
        why = f"the same in every row: {next(iter(cells.counts))!r}"
    elif names_identifier(plan.header):
        why = "an identifier"
    text = f"Import {plan.header!r} as a clinical field?"
    question = cells.question("use", text, (FIELD, NOTHING), NOTHING if why else FIELD)
    plan = plan._with(question)
    if cells.answers.to(question) == NOTHING:
        return replace(plan, why=why or "left out")
    return replace(plan, field=field)


def _plan_known(plan: ColumnPlan, known_field: Field, cells: ColumnCells) -> ColumnPlan:
    """Return the plan of a column that a schema has."""
    parsed, questions = _parsed_as(known_field, cells)
    fitting = {cell: v for cell, v in parsed.values.items() if _fits(known_field, v)}
    plan = _with_values(plan._with(*questions), replace(parsed, values=fitting), cells)
    event, questions = _event_beside(parsed, cells)
    plan = replace(plan, field=known_field)._with(*questions)
    plan = _with_flags(_with_outcome(plan, event, cells), known_field.kind)
    if parsed.unit and parsed.unit != known_field.unit:
        remark = f"{parsed.unit} taken for {known_field.unit or 'no unit'}, as the schema has it"
        plan = replace(plan, remarks=(*plan.remarks, remark))
    return plan


def _event_beside(parsed: ParsedColumn, cells: ColumnCells) -> tuple[ParsedColumn, Questions]:
    """Return the events in a column of categories, else values."""
    if parsed.kind not in (Kind.CATEGORY, Kind.ORDINAL):
        return parsed, ()
    event, questions = infer_event(cells)
    return event or parsed, questions


def _parsed_as(known_field: Field, cells: ColumnCells) -> tuple[ParsedColumn, Questions]:
    """Return the cells as values of a field."""
    kind: Kind = known_field.kind
    questions: Questions = ()
    if kind is Kind.NUMBER:
        return infer_numbers(cells, known_field.unit)
    if kind is Kind.DATE:
        days, questions = infer_days(cells)
        return days or ParsedColumn(kind, {}), questions
    if kind is Kind.BOOLEAN and not _is_spelled(cells):
        event, questions = infer_event(cells, "1" if _is_exported(cells) else "")
        if event is not None:
            return event, questions
    words = {cell: _word(known_field, cell) for cell in cells.counts}
    values = {cell: value for cell, value in words.items() if value is not None}
    return ParsedColumn(kind, values, remarks=_word_remarks(kind, values)), questions


def _word_remarks(kind: Kind, values: Mapping[str, Value]) -> tuple[str, ...]:
    renamed = [f"{c} means {v}" for c, v in values.items() if str(v).casefold() != c.casefold()]
    is_named = kind in (Kind.CATEGORY, Kind.ORDINAL)
    return (", ".join(renamed[:6]),) if renamed and is_named else ()


def _is_spelled(cells: ColumnCells) -> bool:
    """Return whether yes and no cannot be an event."""
    words = all(cell.casefold() in ("yes", "no", "true", "false") for cell in cells.counts)
    return words and not names_event(cells.header)


def _is_exported(cells: ColumnCells) -> bool:
    """Return whether a study exported flags: 1 means event."""
    header, known = cells.header, cells.counts
    is_named = header.isupper() and header.endswith("_STATUS") and not names_censoring(header)
    return is_named and "1" in known and set(known) <= {"0", "1"}


def _word(known_field: Field, cell: str) -> Value | None:
    """Return a field's value for a cell, if any."""
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


def _shortened(known_field: Field, cell: str) -> str | None:
    """Return the only category that begins with a cell: "pos"."""
    short = cell.casefold().rstrip(".")
    matches = [value for value in known_field.values if value.casefold().startswith(short)]
    return matches[0] if len(matches) == 1 and len(short) >= _SHORTEST else None


def _fits(known_field: Field, value: Value) -> bool:
    if known_field.kind is not Kind.NUMBER or known_field.hard is None:
        return True
    low, high = known_field.hard
    return isinstance(value, float) and low <= value <= high
