"""Outcome: time to an event in a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.cohort.endpoint import (
    CENSORED_WITH_EVENT_TIME,
    ENDPOINTS,
    NEGATIVE,
    NO_EVENT_TIME,
    NO_ORIGIN,
    NO_STATUS,
    NO_TIME,
    NOT_STATED,
    ORIGINS,
    TWO_STATUSES,
    TWO_TIMES,
    UNITS,
    Endpoint,
    TimeToEvent,
    kind_of,
)
from napari_wsimil.cohort.headers import (
    ANY,
    DAYS,
    VITAL,
    is_outcome,
    names_death_time,
    names_time,
    stem,
)
from napari_wsimil.cohort.table_import.event_inference import MOST_NAMED_STATES
from napari_wsimil.cohort.table_import.questions import (
    CENSORED_TIME_COLUMN,
    EVENT_COLUMN,
    NO_COLUMN,
    ORIGIN_COLUMN,
    OTHER_COLUMNS,
    TIME_COLUMN,
    ImportQuestion,
    Questions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_wsimil.cohort.table import TableRow
    from napari_wsimil.cohort.table_import.column_plan import ColumnPlan
    from napari_wsimil.cohort.table_import.questions import ImportAnswers

#: Families of headers that are overall survival together.
_OVERALL = {"os", VITAL}


@dataclass(frozen=True)
class OutcomeColumns:
    """The columns of time to an event.

    Attributes
    ----------
    event
        Whether it happened at the end of the time.
    event_times
        Times of patients with the event, if they have columns of their own, as in the GDC.
    censored_times
        Times of the other patients, or of all.
    statuses
        Other columns that state the same event.
    deaths
        Other columns of times to death, which contradict that a patient is alive.
    start
        Dates that times are counted from, where the times are dates.
    endpoint
        Its kind, unit and origin.
    """

    event: ColumnPlan
    event_times: tuple[ColumnPlan, ...]
    censored_times: tuple[ColumnPlan, ...]
    statuses: tuple[ColumnPlan, ...] = ()
    deaths: tuple[ColumnPlan, ...] = ()
    start: ColumnPlan | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)

    @property
    def times(self) -> tuple[ColumnPlan, ...]:
        """The columns of times, those of the event first."""
        return (*self.event_times, *self.censored_times)

    @property
    def columns(self) -> tuple[ColumnPlan, ...]:
        """Columns of the event, its times and their start."""
        return (self.event, *self.times, *((self.start,) if self.start else ()))

    @property
    def stated_columns(self) -> tuple[ColumnPlan, ...]:
        """All columns of the outcome, further event columns included."""
        return (*self.columns, *self.statuses, *self.deaths)

    @property
    def name(self) -> str:
        """Name of the outcome in its question."""
        return " / ".join(c.header for c in self.times) + f" + {self.event.header}"

    @property
    def unit(self) -> str:
        """Unit of the times, empty where none is known."""
        return next((column.unit for column in self.times if column.unit in DAYS), "")

    @property
    def may_move_on(self) -> bool:
        """Whether the last of several times of a patient counts."""
        return all(stem(column.header) == VITAL for column in self.censored_times)

    def factor(self, column: ColumnPlan) -> float:
        """Return the factor from a column's unit to the outcome's."""
        return DAYS[column.unit] / DAYS[self.unit] if column.unit in DAYS else 1.0


def find_outcome(
    columns: Sequence[ColumnPlan], answers: ImportAnswers
) -> tuple[OutcomeColumns | None, Questions]:
    """Return the outcome of a table; several are a question."""
    candidates = {o.name: o for column in columns for o in _candidates(column, columns, answers)}
    options = (*candidates, NO_COLUMN, OTHER_COLUMNS)
    default = NO_COLUMN if not candidates else options[0] if len(candidates) == 1 else ""
    if TIME_COLUMN in answers.by_key or EVENT_COLUMN in answers.by_key:
        default = OTHER_COLUMNS
    text = "Which time and event are the outcome?"
    questions: Questions = (ImportQuestion("outcome", text, options, default),)
    answer = answers.to(questions[0])
    outcome = candidates.get(answer)
    if answer == OTHER_COLUMNS:
        outcome, further = _named_outcome(columns, answers)
        questions += further
    if outcome is None:
        return None, questions
    is_dated = any(question.key == ORIGIN_COLUMN for question in questions)
    outcome, further = _with_endpoint(outcome, answers, is_dated=is_dated)
    return outcome, questions + further


def _named_outcome(
    columns: Sequence[ColumnPlan], answers: ImportAnswers
) -> tuple[OutcomeColumns | None, Questions]:
    """Return the outcome of the columns named in answers."""
    dates = tuple(c.header for c in columns if c.field and c.field.kind is Kind.DATE)
    times = (*(c.header for c in columns if c.times), *dates)
    few = tuple(c.header for c in columns if 0 < _count(c) <= MOST_NAMED_STATES)
    by_header = {column.header: column for column in columns}

    def question(
        key: str, text: str, headers: tuple[str, ...], default: str = ""
    ) -> ImportQuestion:
        header = answers.by_key.get(key, "")
        # A column of this answer is an option, even if its own cells are no times or events.
        more = (header,) if header in by_header and header not in headers else ()
        return ImportQuestion(key, text, (*headers, *more), default)

    text = "Which column has the time of censored patients, if it is a separate one?"
    questions: Questions = (
        question(TIME_COLUMN, "Which column has the time to the event?", times),
        question(EVENT_COLUMN, "Which column has the event status?", few),
        question(CENSORED_TIME_COLUMN, text, (NO_COLUMN, *times), NO_COLUMN),
    )
    time, event, other = (by_header.get(answers.to(one)) for one in questions)
    if time is None or event is None:
        return None, questions
    outcome = OutcomeColumns(event, (time,) if other else (), (other or time,))
    if time.header not in dates:
        return outcome, questions
    origin = question(ORIGIN_COLUMN, "Which column has the start date of the times?", dates)
    start = by_header.get(answers.to(origin))
    return replace(outcome, start=start), (*questions, origin)


def _with_endpoint(
    outcome: OutcomeColumns, answers: ImportAnswers, *, is_dated: bool
) -> tuple[OutcomeColumns, Questions]:
    """Return the outcome with its endpoint; unknown parts are questions."""
    kind = _kind([column.header for column in (outcome.event, *outcome.times)])
    kinds = tuple(dict.fromkeys((*ENDPOINTS, *filter(None, (kind,)))))
    questions = {"kind": _choice("outcome: name", "Which endpoint is the outcome?", kinds, kind)}
    stated = {"unit": outcome.unit}
    if outcome.start is not None:
        stated = {"unit": "days", "origin": outcome.start.header}
    elif not outcome.unit:
        text = "What is the unit of the outcome's times?"
        questions["unit"] = _choice("outcome: unit", text, UNITS)
    if outcome.start is None and not is_dated:
        text = "What is the start of the outcome's times?"
        questions["origin"] = _choice(ORIGIN_COLUMN, text, ORIGINS)
    chosen = {part: answers.to(question) for part, question in questions.items()}
    parts = stated | {part: "" if text == NOT_STATED else text for part, text in chosen.items()}
    return replace(outcome, endpoint=Endpoint(**parts)), tuple(questions.values())


def _choice(key: str, text: str, options: tuple[str, ...], default: str = "") -> ImportQuestion:
    return ImportQuestion(key, text, (NOT_STATED, *options), default or NOT_STATED)


def _kind(headers: Sequence[str]) -> str:
    """Return the kind of endpoint that headers agree on."""
    kinds = {kind_of(header) for header in headers}
    if len(kinds - {""}) != 1:
        return ""
    (kind,) = kinds - {""}
    return kind if kind in ENDPOINTS or len(kinds) == 1 else ""


def _candidates(
    column: ColumnPlan, columns: Sequence[ColumnPlan], answers: ImportAnswers
) -> tuple[OutcomeColumns, ...]:
    """Return the possible outcomes of a column of events."""
    question = column.question("event")
    is_open = question is not None and not answers.to(question)
    if not (column.events or is_open):
        return ()
    times = [c for c in columns if c.header != column.header and _is_time(c)]
    family = stem(column.header)
    alike = [c for c in times if stem(c.header) == family]
    across = [c for c in times if {family, stem(c.header)} <= _OVERALL]
    generic = [c for c in times if ANY in (family, stem(c.header)) and _is_generic(c.header)]
    matches = alike or across or generic
    statuses = tuple(c for c in columns if c is not column and c.events and _same(column, c))
    vital = _of_death([c for c in matches if stem(c.header) == VITAL])
    deaths = tuple(c for c in times if family in _OVERALL and names_death_time(c.header))
    others = [c for c in matches if stem(c.header) != VITAL]
    outcomes = [OutcomeColumns(column, (), (c,), statuses, deaths) for c in others]
    return (*((OutcomeColumns(column, *vital, statuses),) if vital else ()), *outcomes)


def _of_death(
    columns: Sequence[ColumnPlan],
) -> tuple[tuple[ColumnPlan, ...], tuple[ColumnPlan, ...]] | None:
    """Return times to death and times to the last contact.

    Of several units, such as days and months, the first one is used.
    """
    deaths = [c for c in columns if names_death_time(c.header)]
    contacts = [c for c in columns if c not in deaths]
    unit = next((column.unit for column in (*deaths, *contacts) if column.times), None)
    if unit is None:
        return None
    parts = []
    for part in (deaths, contacts):
        own = tuple(column for column in part if column.unit == unit or not column.times)
        parts.append(own or tuple(c for c in part if c.unit == part[0].unit))
    return parts[0], parts[1]


def _count(column: ColumnPlan) -> int:
    """Return how many different values a column has."""
    return sum(not isinstance(value, Absent) for value in column.values.values())


def _is_time(column: ColumnPlan) -> bool:
    if not column.times:  # nobody died in a table, yet the time to death is another column
        return bool(column.absences) and not _count(column) and names_death_time(column.header)
    return column.unit in DAYS or names_time(column.header)


def _is_generic(header: str) -> bool:
    return is_outcome(header) or names_time(header)


def _same(one: ColumnPlan, other: ColumnPlan) -> bool:
    """Return whether two columns of events state the same event."""
    families = {stem(one.header), stem(other.header)}
    return families <= _OVERALL or (len(families) == 1 and families != {ANY})


def time_to_event(outcome: OutcomeColumns, rows: Sequence[TableRow]) -> TimeToEvent:
    """Return time and event in rows, or the reason against."""
    states = {s for column in outcome.statuses for s in _states(column, rows)}
    own = _states(outcome.event, rows)
    if not own:
        return TimeToEvent(problem=NO_STATUS)
    if len(own | states) > 1:
        return TimeToEvent(problem=TWO_STATUSES)
    (event,) = own
    at_event = _times(outcome, outcome.event_times, rows)
    until = _times(outcome, outcome.censored_times, rows)
    if min((*at_event, *until), default=0.0) < 0:
        return TimeToEvent(problem=NEGATIVE)
    dies = any(row.cells[c.header] in c.times for c in outcome.deaths for row in rows)
    if problem := _problem(outcome, event, dies, at_event, until):
        if problem in (NO_TIME, NO_EVENT_TIME) and _lacks_origin(outcome, rows):
            problem = NO_ORIGIN
        return TimeToEvent(problem=problem)
    return TimeToEvent(max(at_event if event and outcome.event_times else until), event)


def _problem(
    outcome: OutcomeColumns, event: bool, dies: bool, at_event: set[float], until: set[float]
) -> str:
    """Return the reason against an outcome, or an empty text."""
    if not event and (at_event or dies):
        return CENSORED_WITH_EVENT_TIME
    counts = at_event if event and outcome.event_times else until
    if not counts and event and outcome.event_times:
        return NO_EVENT_TIME
    if not counts:
        return NO_TIME
    # The last contact moves on; any other time of one patient is one.
    moves = counts is until and outcome.may_move_on
    return TWO_TIMES if len(counts) > 1 and not moves else ""


def _states(column: ColumnPlan, rows: Sequence[TableRow]) -> set[bool]:
    cells = (row.cells[column.header] for row in rows)
    return {column.events[cell] for cell in cells if cell in column.events}


def _times(
    outcome: OutcomeColumns, columns: Iterable[ColumnPlan], rows: Sequence[TableRow]
) -> set[float]:
    if outcome.start is not None:
        return _days(outcome.start, columns, rows)
    return {
        column.times[cell] * outcome.factor(column)
        for column in columns
        for row in rows
        if (cell := row.cells[column.header]) in column.times
    }


def _days(start: ColumnPlan, columns: Iterable[ColumnPlan], rows: Sequence[TableRow]) -> set[float]:
    began = _dates(start, rows)
    ends = {day for column in columns for day in _dates(column, rows)}
    return {float((end - begin).days) for begin in began for end in ends}


def _lacks_origin(outcome: OutcomeColumns, rows: Sequence[TableRow]) -> bool:
    ends = (day for column in outcome.times for day in _dates(column, rows))
    return outcome.start is not None and not _dates(outcome.start, rows) and any(ends)


def _dates(column: ColumnPlan, rows: Sequence[TableRow]) -> set[date]:
    values = (column.values.get(row.cells[column.header]) for row in rows)
    return {value for value in values if isinstance(value, date)}
