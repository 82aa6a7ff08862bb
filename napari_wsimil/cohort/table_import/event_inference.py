"""Event inference: flags and columns of events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.cohort.headers import (
    ANY,
    names_censoring,
    names_count,
    names_event,
    plain,
    stem,
    unit_of,
)
from napari_wsimil.cohort.table_import.questions import (
    EVENT_COLUMN,
    IN_NONE,
    NO_EVENT,
    ColumnCells,
    Parsed,
    ParsedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table_import.questions import ImportQuestion

_EVENT_VALUE = re.compile(r"[01]\s*:.*|alive|dead|living|deceased", re.IGNORECASE)

_FLAG_VALUE = re.compile(
    r"[01](?:\.0)?|yes|no|true|false|ja|nein|[tfynj]|(un)?censored|(no )?event|died|"
    r"recurred|relapsed?|progress(ed|ion)|disease ?free|event ?free",
    re.IGNORECASE,
)

#: R's codes of a status, 1 censored and 2 dead, or 0 censored, 1 another event and 2 dead.
_STATUS_CODE = re.compile(r"[0-2](?:\.0)?")

#: States of censored patients.
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


def infer_event(cells: ColumnCells, default: str = "") -> Parsed:
    """Infer events by cell; None without events.

    The value in which it happened is a question: 1 may as well mean censored.

    Parameters
    ----------
    cells
        Cells of the column, without words for absence.
    default
        The value, where it is known.
    """
    states: dict[str, str] = {}
    for cell, _ in cells.counts.most_common():
        states.setdefault(_state(cell), cell)
    if not states or not _names_states(cells, states):
        return None, ()
    question = _event_question(cells, states, default)
    answer = cells.answers.to(question)
    if answer == NO_EVENT:
        return None, (question,)
    if not answer:
        none = dict.fromkeys(cells.counts, False)
        return ParsedColumn(Kind.BOOLEAN, none), (question,)
    return _events(cells, question, answer)


def _event_question(cells: ColumnCells, states: Mapping[str, str], default: str) -> ImportQuestion:
    header, known = cells.header, cells.counts
    spelled = [cell for cell in known if states[_state(cell)] == cell]
    counts = {cell: sum(known[c] for c in known if _state(c) == _state(cell)) for cell in spelled}
    text = f"Which value of {header!r} means that the event happened? Others are censored."
    if names_censoring(header):
        text += f" If 1 means censored, answer 0 (event = 1 - {header})."
    never = (IN_NONE,) if len(spelled) == 1 else ()
    none = () if cells.answers.column(EVENT_COLUMN) == header else (NO_EVENT,)
    return cells.question("event", text, (*spelled, *never, *none), default, counts)


def _events(cells: ColumnCells, question: ImportQuestion, answer: str) -> Parsed:
    """Return events by cell; states beyond two are questions."""
    known, counts = cells.counts, question.counts
    others = [cell for cell in counts if cell != answer] if len(counts) > 2 else []
    meaning_of = {cell: _meaning_question(cells, cell, counts[cell]) for cell in others}
    meanings = {_state(c): _meaning(cells, one) for c, one in meaning_of.items()}
    meanings[_state(answer)] = True
    values: dict[str, Value] = {cell: meanings.get(_state(cell), False) for cell in known}
    remark = f"event = {answer!r} ({counts.get(answer, 0)} of {known.total()})"
    words = [f"{cell} is {_WORDS_OF[meanings[_state(cell)]]}" for cell in others]
    remarks = (", ".join((remark, *(words or ["other values censored"]))),)
    parsed = ParsedColumn(Kind.BOOLEAN, values, remarks=remarks)
    return parsed, (question, *meaning_of.values())


def _meaning_question(cells: ColumnCells, cell: str, count: int) -> ImportQuestion:
    is_plain = _CENSORED.fullmatch(cell) or _STATUS_CODE.fullmatch(cell)
    text = f"What does {cell!r} in {cells.header!r} mean?"
    default = "censored" if is_plain else ""
    return cells.question(cell, text, tuple(_MEANINGS), default, {cell: count})


def _meaning(cells: ColumnCells, question: ImportQuestion) -> Value:
    """Return whether a further state is the event."""
    return _MEANINGS.get(cells.answers.to(question), Absent.UNKNOWN)


def _state(cell: str) -> str:
    return _WHOLE.get(cell, cell.casefold())


def _names_states(cells: ColumnCells, states: Mapping[str, str]) -> bool:
    """Return whether values of a column may be events."""
    header = cells.header
    if cells.answers.column(EVENT_COLUMN) == header:
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
    if stem(header) == ANY and not cells.is_timed:
        return False
    codes = all(_STATUS_CODE.fullmatch(state) for state in states)
    pair = len(states) == 2 or plain(header) in ("status", "fustat")
    return all(_FLAG_VALUE.fullmatch(state) for state in states) or (codes and pair)


def _counts(header: str) -> bool:
    """Return whether 0 and 1 are counts or times."""
    return bool(unit_of(header)) or names_count(header) or "time" in plain(header).split()


def stated_flags(header: str, events: Mapping[str, bool]) -> dict[str, Value]:
    """Return yes and no in cells of an event's column.

    A `censorship` of 1 is yes, though the event did not happen. Words of a column that names
    censoring are yes where a patient is censored; else a column is yes where the event happened.
    """
    if flags := _plain_flags(events, _EVENT_FLAGS):
        return flags
    is_contrary = names_censoring(header)
    return {cell: event is not is_contrary for cell, event in events.items()}


def _plain_flags(known: Iterable[str], pairs: Iterable[set[str]]) -> dict[str, Value]:
    """Return whether each cell is yes; empty for other cells."""
    words = {cell: _state(cell) for cell in known}
    if not any(set(words.values()) <= pair for pair in pairs):
        return {}
    return {cell: word in _TRUE for cell, word in words.items()}


def infer_flags(cells: ColumnCells) -> Parsed:
    """Infer yes and no by cell; None for other values."""
    values = {} if _counts(cells.header) else _plain_flags(cells.counts, _FLAGS)
    return (ParsedColumn(Kind.BOOLEAN, values), ()) if values else (None, ())
