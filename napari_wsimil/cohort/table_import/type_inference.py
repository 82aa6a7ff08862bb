"""Readings: the ways in which a column can be read, tried one after the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.cohort.table_import import cell_parsing as cells
from napari_wsimil.cohort.table_import.cell_parsing import Stage, is_unassessed, ordered, stage_of
from napari_wsimil.cohort.table_import.headers import (
    ANY,
    names_censoring,
    names_count,
    names_event,
    names_stage,
    names_time,
    plain,
    stem,
    unit_of,
)
from napari_wsimil.cohort.table_import.inferred import Reading
from napari_wsimil.cohort.table_import.number_parsing import numbers_of
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

#: The levels of a scale that everybody knows, whether a table has them or not.
_LEVELS = {
    "stage": ("Stage I", "Stage II", "Stage III", "Stage IV"),
    "T": ("T1", "T2", "T3", "T4"),
    "N": ("N0", "N1", "N2", "N3"),
    "M": ("M0", "M1"),
    "grade": ("G1", "G2", "G3"),
}


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
    if not all(cells.is_day(cell) for cell in known):
        return None
    written = [cell for cell in known if "/" in cell or "." in cell]
    first = cells.day_first(written) if written else True
    if first is None:
        text = f"{header!r} has days such as {written[0]}: what comes first?"
        options = ("day first", "month first")
        answer = asked.ask(Question(f"{header}: order", text, options, column=header))
        first = answer == "day first"
    values = {c: found for c in known if (found := cells.day(c, first=first)) is not None}
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


#: The questions whose answers name the columns of an outcome that nothing else recognizes.
EVENT_COLUMN, TIME_COLUMN, CENSORED_TIME_COLUMN, ORIGIN_COLUMN = (
    "outcome: event",
    "outcome: time",
    "outcome: time if censored",
    "outcome: origin",
)

#: The answer that the outcome is in columns that are named one by one.
OTHER_COLUMNS = "other columns"


def column_named(key: str, asked: Asked) -> str:
    """Return the header that one of these questions was answered with, empty for none."""
    if asked.answers.get("outcome", OTHER_COLUMNS) != OTHER_COLUMNS:
        return ""
    return asked.answers.get(key, "")


#: The answer that an event happened in no row of a column.
IN_NONE = "in no row"

#: The answer that a column says nothing of an event.
NO_EVENT = "no event"


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


def _staged(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    """Return the stages of a column that is called so: its bare numbers are no numbers."""
    return stages_of(header, known, asked) if names_stage(header) else None


def _numbers(header: str, known: Counter[str], asked: Asked) -> Reading | None:
    odd = {c: n for c, n in known.items() if cells.number(c) is None and not cells.has_comma(c)}
    numeric = known.total() - sum(odd.values())
    brackets = sum(n for cell, n in odd.items() if cells.bracket(cell) is not None)
    if numeric + brackets < (1 - _FEW) * known.total() or not numeric + brackets:
        return None
    if numeric + brackets < known.total() and len(known) < _SEVERAL:
        return None  # codes such as 0, 1, equivocal
    if brackets and (ordinal := _brackets(header, known, numeric, asked)) is not None:
        return ordinal
    return numbers_of(header, known, asked)


def _brackets(header: str, known: Counter[str], numeric: int, asked: Asked) -> Reading | None:
    found = {cell: n for cell, n in known.items() if cells.bracket(cell) is not None}
    text = f"{header!r} has brackets such as {next(iter(found))}: what are they?"
    ends = numeric and not all(cells.is_score(cell) for cell in found)
    default = "numbers" if ends else "ordered categories"
    options = ("numbers", "ordered categories")
    answer = asked.ask(Question(f"{header}: brackets", text, options, default, found, header))
    if answer == "numbers":
        return None
    readable = [cell for cell in known if cells.middle(cell) is not None]
    levels = tuple(sorted(readable, key=cells.bracket_order))
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


_READINGS: tuple[Callable[[str, Counter[str], Asked], Reading | None], ...] = (
    event_of,
    _flags,
    days_of,
    _staged,
    _numbers,
    stages_of,
    _categories,
)
