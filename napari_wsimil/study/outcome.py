"""Outcome: time to an event, in the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.study.cells import says
from napari_wsimil.study.endpoint import Endpoint, endpoint_of
from napari_wsimil.study.field import Absent, Kind
from napari_wsimil.study.headers import DAYS, names_event, plain, stem
from napari_wsimil.study.questions import Question
from napari_wsimil.study.readings import NO_EVENT
from napari_wsimil.study.roles import NO_COLUMN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.study.draft import Column
    from napari_wsimil.study.field import Value
    from napari_wsimil.study.questions import Asked
    from napari_wsimil.study.tables import TableRow

#: How often values must repeat, on average, before they can be said to go with classes.
_REPEATED = 5


@dataclass(frozen=True)
class Outcome:
    """The columns that say how long patients were followed and what happened.

    Attributes
    ----------
    event
        Whether it happened at the end of the time.
    times
        Of which the first that states a time counts: the GDC writes one for the dead and
        another for the living.
    """

    event: Column
    times: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The event's and the times' columns."""
        return (self.event, *self.times)

    @property
    def unit(self) -> str:
        """Unit of the times, empty where none is known."""
        return self.times[0].field.unit if self.times[0].field else ""

    @property
    def endpoint(self) -> Endpoint:
        """Which outcome this is, as the headers name it, and its unit."""
        named = (endpoint_of(column.header, self.unit) for column in self.columns)
        return next((one for one in named if one.kind), endpoint_of("", self.unit))

    def of(self, values: Mapping[str, Value]) -> tuple[float, bool] | None:
        """Return time and event of a patient's values by header, None if one is not known."""
        event = values[self.event.header]
        stated = (values[column.header] for column in self.times)
        time = next((t for t in stated if isinstance(t, float) and t >= 0), None)
        return None if time is None or not isinstance(event, bool) else (time, event)


def marked(
    columns: Sequence[Column], rows: Sequence[TableRow], label: str | None
) -> tuple[Column, ...]:
    """Return the columns, those marked as outcome whose every value goes with one class.

    Such a column defines the class, or is derived from it: a model that sees it learns
    nothing else.
    """
    if label is None:
        return tuple(columns)
    return tuple(_marked(column, rows, label) for column in columns)


def _marked(column: Column, rows: Sequence[TableRow], label: str) -> Column:
    known = column.field
    if known is None or known.outcome or known.kind in (Kind.NUMBER, Kind.DATE):
        return column
    classes: dict[Value, set[str]] = {}
    for row in rows:
        value = column.values[row.cells[column.header]]
        if not isinstance(value, Absent) and says(row.cells[label]):
            classes.setdefault(value, set()).add(row.cells[label])
    named = {name for names in classes.values() for name in names}
    repeats = len(classes) * _REPEATED <= len(rows)
    if not repeats or len(named) < 2 or any(len(names) > 1 for names in classes.values()):
        return column
    told = f"each of its values goes with one class of {label!r}: it gives the label away"
    field = known.model_copy(update={"outcome": True})
    return replace(column, field=field, remarks=(*column.remarks, told))


def outcome_of(columns: Sequence[Column], asked: Asked) -> Outcome | None:
    """Return the outcome of a study, having asked where a table has several; None for none."""
    found = {_name(o): o for column in columns if (o := _candidate(column, columns, asked))}
    if not found:
        return None
    options = (*found, NO_COLUMN)
    default = options[0] if len(found) == 1 else ""
    text = "Which time and event are the study's outcome?"
    return found.get(asked.ask(Question("outcome", text, options, default)))


def _candidate(column: Column, columns: Sequence[Column], asked: Asked) -> Outcome | None:
    keys = {question.key for question in asked.questions}
    key = f"{column.header}: event"
    if column.field is None or column.field.kind is not Kind.BOOLEAN:
        return None
    if key not in keys and not (column.field.outcome and names_event(column.header)):
        return None
    if asked.answers.get(key) == NO_EVENT:
        return None
    times = [c for c in columns if _is_time(c) and _same(column.header, c.header)]
    times.sort(key=lambda c: "death" not in plain(c.header))
    alike = tuple(
        t for t in times if t.field and times[0].field and t.field.unit == times[0].field.unit
    )
    return Outcome(column, alike) if alike else None


def _is_time(column: Column) -> bool:
    known = column.field
    if known is None or known.kind is not Kind.NUMBER:
        return False
    return known.unit in DAYS or plain(column.header) == "time"


def _same(event: str, time: str) -> bool:
    return stem(event) == stem(time)


def _name(outcome: Outcome) -> str:
    return " / ".join(c.header for c in outcome.times) + f" + {outcome.event.header}"
