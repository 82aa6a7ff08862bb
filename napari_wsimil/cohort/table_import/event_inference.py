"""Event inference: flags, and columns that state whether an event happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.cohort.headers import (
    ANY,
    names_censoring,
    names_count,
    names_event,
    names_time,
    plain,
    stem,
    unit_of,
)
from napari_wsimil.cohort.table_import.cell_parsing import (
    Reading,
)
from napari_wsimil.cohort.table_import.questions import Question

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import Asked

_EVENT_VALUE = re.compile(r"[01]\s*:.*|alive|dead|living|deceased", re.IGNORECASE)

_FLAG_VALUE = re.compile(
    r"[01](?:\.0)?|yes|no|true|false|ja|nein|[tfynj]|(un)?censored|(no )?event|died|"
    r"recurred|relapsed?|progress(ed|ion)|disease ?free|event ?free",
    re.IGNORECASE,
)

#: R's codes of a status, 1 censored and 2 dead, or 0 censored, 1 another event and 2 dead.
_STATUS_CODE = re.compile(r"[0-2](?:\.0)?")

#: States in which a patient is censored, whoever says so.
_CENSORED = re.compile(r"0\s*:.*|alive|living|censored|no( event)?", re.IGNORECASE)

#: Values a status may have, at most, before it names no event.
_MOST_STATES, _MOST_VITAL_STATES, MOST_NAMED_STATES = 3, 8, 12

_MEANINGS: dict[str, Value] = {"censored": False, "event": True, "unknown": Absent.UNKNOWN}

_WORDS_OF = {value: meaning for meaning, value in _MEANINGS.items()}

_FLAGS = ({"0", "1"}, {"yes", "no"}, {"true", "false"}, {"y", "n"})

_WHOLE = {"0.0": "0", "1.0": "1"}

_TRUE = ("1", "yes", "true", "y", "t", "j", "ja")

#: Further pairs that are yes and no in a column of an event alone.
_EVENT_FLAGS = (*_FLAGS, {"t", "f"}, {"j", "n"}, {"ja", "nein"})

#: The questions whose answers name the columns of an outcome that nothing else recognizes.
EVENT_COLUMN, TIME_COLUMN, CENSORED_TIME_COLUMN, ORIGIN_COLUMN = (
    "outcome: event",
    "outcome: time",
    "outcome: time if censored",
    "outcome: origin",
)

#: The answer that the outcome is in columns that are named one by one.
OTHER_COLUMNS = "other columns"

#: The answer that an event happened in no row of a column.
IN_NONE = "in no row"

#: The answer that a column says nothing of an event.
NO_EVENT = "no event"


def event_of(header: str, known: Counter[str], asked: Asked, default: str = "") -> Reading | None:
    """Return whether an event happened in a column; None if it says nothing of one.

    In which value it happened is asked: 1 may as well mean censored. `default` is the value
    where it is known.
    """
    states: dict[str, str] = {}
    for cell, _ in known.most_common():
        states.setdefault(_state(cell), cell)
    if not states or not _names_states(header, states, asked):
        return None
    spelled = [cell for cell in known if states[_state(cell)] == cell]
    counts = {cell: sum(known[c] for c in known if _state(c) == _state(cell)) for cell in spelled}
    text = f"In which value of {header!r} did the event happen? (Else the patient is censored.)"
    if names_censoring(header):
        text += f" Where 1 is censored, event = 1 - {header}: answer 0."
    never = (IN_NONE,) if len(spelled) == 1 else ()
    none = () if column_named(EVENT_COLUMN, asked) == header else (NO_EVENT,)
    question = Question(
        f"{header}: event", text, (*spelled, *never, *none), default, counts, header
    )
    answer = asked.ask(question)
    if answer == NO_EVENT:
        return None
    if not answer:
        return Reading(Kind.BOOLEAN, dict.fromkeys(known, False))
    return _happened(question, known, asked)


def _happened(question: Question, known: Counter[str], asked: Asked) -> Reading:
    """Return whether the event happened in each cell, having asked for states beyond two."""
    header, answer, counts = question.column, question.answer(asked.answers), question.counts
    others = [cell for cell in counts if cell != answer] if len(counts) > 2 else []
    meanings = {_state(cell): _meaning(header, cell, counts[cell], asked) for cell in others}
    meanings[_state(answer)] = True
    values: dict[str, Value] = {cell: meanings.get(_state(cell), False) for cell in known}
    remark = f"happened where {answer!r} ({counts.get(answer, 0)} of {known.total()})"
    words = [f"{cell} is {_WORDS_OF[meanings[_state(cell)]]}" for cell in others]
    return Reading(
        Kind.BOOLEAN, values, remarks=(", ".join((remark, *(words or ["else censored"]))),)
    )


def _meaning(header: str, cell: str, count: int, asked: Asked) -> Value:
    """Return whether the event happened in a state beyond the first two, having asked."""
    text = f"What does {cell!r} of {header!r} mean?"
    is_plain = _CENSORED.fullmatch(cell) or _STATUS_CODE.fullmatch(cell)
    default = "censored" if is_plain else ""
    question = Question(f"{header}: {cell}", text, tuple(_MEANINGS), default, {cell: count}, header)
    return _MEANINGS.get(asked.ask(question), Absent.UNKNOWN)


def _state(cell: str) -> str:
    return _WHOLE.get(cell, cell.casefold())


def _names_states(header: str, states: Mapping[str, str], asked: Asked) -> bool:
    """Return whether the values of a column are states in which an event may have happened."""
    if column_named(EVENT_COLUMN, asked) == header:
        return len(states) <= MOST_NAMED_STATES
    words = all(_EVENT_VALUE.fullmatch(state) for state in states)
    if len(states) == 1:
        return words and not unit_of(header)
    if "vital" in plain(header).split() and any(map(_EVENT_VALUE.fullmatch, states)):
        return len(states) <= _MOST_VITAL_STATES
    if len(states) > _MOST_STATES:
        return False
    if words:
        return True
    if not names_event(header) or _counts(header):
        return False
    if stem(header) == ANY and not any(map(names_time, asked.columns)):
        return False
    codes = all(_STATUS_CODE.fullmatch(state) for state in states)
    pair = len(states) == 2 or plain(header) in ("status", "fustat")
    return all(_FLAG_VALUE.fullmatch(state) for state in states) or (codes and pair)


def column_named(key: str, asked: Asked) -> str:
    """Return the header that one of these questions was answered with, empty for none."""
    if asked.answers.get("outcome", OTHER_COLUMNS) != OTHER_COLUMNS:
        return ""
    return asked.answers.get(key, "")


def _counts(header: str) -> bool:
    """Return whether 0 and 1 in a column are numbers: counts, or times."""
    return bool(unit_of(header)) or names_count(header) or "time" in plain(header).split()


def stated_flags(header: str, happened: Mapping[str, bool]) -> dict[str, Value]:
    """Return yes and no of an event's column as its cells state them.

    A `censorship` of 1 is yes, though the event did not happen. Words of a column that names
    censoring are yes where a patient is censored; else a column is yes where the event happened.
    """
    if flags := _plain_flags(happened, _EVENT_FLAGS):
        return flags
    is_contrary = names_censoring(header)
    return {cell: event is not is_contrary for cell, event in happened.items()}


def _plain_flags(known: Iterable[str], pairs: Iterable[set[str]]) -> dict[str, Value]:
    """Return whether each cell is yes; empty if one is neither yes nor no."""
    words = {cell: _state(cell) for cell in known}
    if not any(set(words.values()) <= pair for pair in pairs):
        return {}
    return {cell: word in _TRUE for cell, word in words.items()}


def _flags(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    values = {} if _counts(header) else _plain_flags(known, _FLAGS)
    return Reading(Kind.BOOLEAN, values) if values else None
