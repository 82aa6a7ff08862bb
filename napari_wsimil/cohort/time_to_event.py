"""Time to event: time and event of patients from the rows of a table, or why there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.cohort.table import TableRow
    from napari_wsimil.cohort.table_import.column_plan import Column
    from napari_wsimil.cohort.table_import.outcome import Outcome

#: Reasons for which a patient has no outcome.
NOT_NAMED = "no time and event"
NO_STATUS = "status not stated"
NO_TIME = "no time at all"
NO_EVENT_TIME = "event without its time"
NO_ORIGIN = "origin of the time not stated"
CENSORED_WITH_EVENT_TIME = "censored, yet with a time of the event"
NEGATIVE = "negative time"
TWO_STATUSES = "statuses disagree"
TWO_TIMES = "times disagree"


@dataclass(frozen=True)
class TimeToEvent:
    """Time and event of one patient; both None where `problem` has the reason."""

    time: float | None = None
    event: bool | None = None
    problem: str = ""


@dataclass(frozen=True)
class Tally:
    """Counts of outcomes.

    Attributes
    ----------
    events, censored
        How many patients (or slides) have an outcome, by whether the event happened.
    without
        How many patients have none, by reason.
    zero
        How many of the patients with an outcome have the time 0.
    noun
        "slide" where slides are counted.
    patients
        Counts of the patients beside them, where a table states outcomes of patients too.
    """

    events: int = 0
    censored: int = 0
    without: Mapping[str, int] = field(default_factory=dict)
    zero: int = 0
    noun: str = "patient"
    patients: Tally | None = None

    @property
    def known(self) -> int:
        """How many patients or slides have an outcome."""
        return self.events + self.censored

    def to_dict(self) -> dict[str, object]:
        """Return the counts as the command line prints them."""
        patients = self.patients
        return {
            "outcomes_per": self.noun,
            "with_outcome": self.known,
            "events": self.events,
            "time_zero": self.zero,
            "without_outcome": dict(self.without),
            **({"outcomes_of_patients": patients.to_dict()} if patients else {}),
        }


def tally_words(counts: Tally) -> Iterator[str]:
    """Yield the counts in sentences: cases with an outcome, and those without, by reason."""
    events = _of(counts.events, "event")
    yield f"{_of(counts.known, counts.noun)} with an outcome: {events}, {counts.censored} censored"
    if counts.zero:
        yield f"{counts.zero} of them have the time 0, which is kept as it is"
    if counts.without:
        reasons = ", ".join(f"{why}: {n}" for why, n in counts.without.items())
        yield f"{_of(sum(counts.without.values()), counts.noun)} without an outcome ({reasons})"
    if counts.patients is not None:
        yield from (f"beside the slides, {line}" for line in tally_words(counts.patients))


def _of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def tally(outcomes: Iterable[TimeToEvent], noun: str = "patient") -> Tally:
    """Return the counts of some outcomes."""
    outcomes = tuple(outcomes)
    events = Counter(one.event for one in outcomes if one.event is not None)
    without = Counter(one.problem for one in outcomes if one.event is None)
    zero = sum(one.time == 0 for one in outcomes)
    return Tally(events[True], events[False], dict(without.most_common()), zero, noun)


def tally_of(patients: Iterable[Patient], *, by_slide: bool) -> Tally:
    """Return the counts of outcomes of patients, or of their slides.

    A slide without an outcome of its own has its patient's. Where slides are counted, so are
    beside them the patients who have an outcome, or a reason why not, of their own.
    """
    patients = tuple(patients)
    if not by_slide:
        return tally(map(outcome_of_patient, patients))
    slides = tally((outcome_of_patient(c) for p in patients for c in p.slide_cases), "slide")
    own = [outcome_of_patient(p) for p in patients if p.no_outcome or p.time is not None]
    return replace(slides, patients=tally(own) if own else None)


def outcome_of_patient(patient: Patient) -> TimeToEvent:
    """Return time and event of a patient of a cohort, or why there is none."""
    problem = patient.no_outcome or ("" if patient.time is not None else NOT_NAMED)
    return TimeToEvent(patient.time, patient.event, problem)


def time_to_event(outcome: Outcome, rows: Sequence[TableRow]) -> TimeToEvent:
    """Return time and event that the rows of a patient or a slide state, or why none."""
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
    dies = any(
        row.cells[column.header] in column.times for column in outcome.deaths for row in rows
    )
    if problem := _problem(outcome, event, dies, at_event, until):
        if problem in (NO_TIME, NO_EVENT_TIME) and _lacks_origin(outcome, rows):
            problem = NO_ORIGIN
        return TimeToEvent(problem=problem)
    return TimeToEvent(max(at_event if event and outcome.event_times else until), event)


def _problem(
    outcome: Outcome, event: bool, dies: bool, at_event: set[float], until: set[float]
) -> str:
    """Return the reason against an outcome, empty if there is none."""
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


def _states(column: Column, rows: Sequence[TableRow]) -> set[bool]:
    cells = (row.cells[column.header] for row in rows)
    return {column.happened[cell] for cell in cells if cell in column.happened}


def _times(outcome: Outcome, columns: Iterable[Column], rows: Sequence[TableRow]) -> set[float]:
    if outcome.start is not None:
        return _days(outcome.start, columns, rows)
    return {
        column.times[cell] * outcome.factor(column)
        for column in columns
        for row in rows
        if (cell := row.cells[column.header]) in column.times
    }


def _days(start: Column, columns: Iterable[Column], rows: Sequence[TableRow]) -> set[float]:
    began = _dates(start, rows)
    ends = {day for column in columns for day in _dates(column, rows)}
    return {float((end - begin).days) for begin in began for end in ends}


def _lacks_origin(outcome: Outcome, rows: Sequence[TableRow]) -> bool:
    ends = (day for column in outcome.times for day in _dates(column, rows))
    return outcome.start is not None and not _dates(outcome.start, rows) and any(ends)


def _dates(column: Column, rows: Sequence[TableRow]) -> set[date]:
    values = (column.values.get(row.cells[column.header]) for row in rows)
    return {value for value in values if isinstance(value, date)}
