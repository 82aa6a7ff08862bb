"""Questions that a table leaves open, and their answers.

A stage of the import never waits for a person. It takes all answers given so far, and returns
its result with the questions that it met. An open question has an answer of its own for the
moment, so the result is always complete, and a further answer only needs the stage again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from napari_wsimil.clinical.field import Kind, Value

#: Keys of the questions that name the columns of an outcome.
EVENT_COLUMN, TIME_COLUMN, CENSORED_TIME_COLUMN, ORIGIN_COLUMN = (
    "outcome: event",
    "outcome: time",
    "outcome: time if censored",
    "outcome: origin",
)

#: Answers: no column has a role; the outcome's columns are named one by one.
NO_COLUMN, OTHER_COLUMNS = "none", "other columns"

#: Answers: an event happened in no row of a column; a column states no event.
IN_NONE, NO_EVENT = "in no row", "no event"

#: Answers: a column becomes a field, or is left out.
FIELD, NOTHING = "field", "nothing"

#: How many options and counts a line has.
_SHOWN = 12


@dataclass(frozen=True)
class ImportQuestion:
    """A question about a table.

    Attributes
    ----------
    key
        Key of its answer: "NA", "patient", "OS_STATUS: event".
    text
        The question, for people.
    options
        The possible answers.
    default
        The answer used until another one is given; empty if a person must answer.
    counts
        Rows by value in question.
    column
        The column in question, empty for the whole table.
    """

    key: str
    text: str
    options: tuple[str, ...]
    default: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    column: str = ""

    @property
    def is_use(self) -> bool:
        """Whether it asks if a column becomes a field."""
        return self.options == (FIELD, NOTHING)

    @property
    def line(self) -> str:
        """The question with its counts and options."""
        counts = ", ".join(f"{value}: {n}" for value, n in list(self.counts.items())[:_SHOWN])
        options = " | ".join(self.options[:_SHOWN]) + (" | …" if self.options[_SHOWN:] else "")
        return f"{self.key}: {self.text}{f' ({counts})' if counts else ''} [{options}]"

    def answer(self, answers: Mapping[str, str]) -> str:
        """Return the given answer, else the default.

        Raises
        ------
        RecordError
            If the answer is none of the options.
        """
        given = answers.get(self.key, self.default)
        if given and given not in self.options:
            shown = ", ".join(self.options[:_SHOWN])
            raise RecordError(
                f"{self.key!r}: {given!r} is no possible answer. Choose one of {shown}."
            )
        return given


#: Questions that a stage met, in order.
Questions: TypeAlias = tuple[ImportQuestion, ...]


@dataclass(frozen=True)
class ImportAnswers:
    """Answers given so far.

    Attributes
    ----------
    by_key
        Answers by question key.
    strict
        Whether an answer that is none of the options is an error; else it is ignored.
    """

    by_key: Mapping[str, str] = field(default_factory=dict)
    strict: bool = True

    def to(self, question: ImportQuestion) -> str:
        """Return the answer to a question, empty if open.

        Raises
        ------
        RecordError
            If the answer is none of the options, and answers are strict.
        """
        return question.default if self._ignores(question) else question.answer(self.by_key)

    def column(self, key: str) -> str:
        """Return the header given for an outcome's column, else empty."""
        if self.by_key.get("outcome", OTHER_COLUMNS) != OTHER_COLUMNS:
            return ""
        return self.by_key.get(key, "")

    def to_questions(self, questions: Iterable[ImportQuestion]) -> dict[str, str]:
        """Return the given answers to these questions, by key."""
        keys = {question.key for question in questions if not self._ignores(question)}
        return {key: answer for key, answer in self.by_key.items() if key in keys}

    def check(self, questions: Iterable[ImportQuestion]) -> None:
        """Raise RecordError if a strict answer has no question."""
        keys = [question.key for question in questions]
        unknown = [key for key in self.by_key if key not in keys]
        if unknown and self.strict:
            known = ", ".join(repr(key) for key in keys[:8]) or "nothing"
            raise RecordError(
                f"{unknown[0]!r} is no question of this table. Its questions are {known}."
            )

    def _ignores(self, question: ImportQuestion) -> bool:
        return not self.strict and self.by_key.get(question.key) not in question.options


@dataclass(frozen=True)
class ColumnCells:
    """Different cells of a column, and the answers so far.

    Attributes
    ----------
    header
        Name of the column.
    counts
        Rows by cell.
    answers
        Answers by question key.
    is_timed
        Whether a column of the table has a time to an event.
    """

    header: str
    counts: Counter[str]
    answers: ImportAnswers
    is_timed: bool = False

    def question(
        self,
        topic: str,
        text: str,
        options: tuple[str, ...],
        default: str = "",
        counts: Mapping[str, int] | None = None,
    ) -> ImportQuestion:
        """Return a question about the column."""
        return ImportQuestion(
            f"{self.header}: {topic}", text, options, default, counts or {}, self.header
        )


@dataclass(frozen=True)
class ParsedColumn:
    """The cells of a column as values of one kind.

    Attributes
    ----------
    kind
        Kind of the values.
    values
        Value by cell; cells of another kind are absent.
    levels
        The categories, in their order.
    unit
        Unit of numbers.
    remarks
        Changes made to the cells, for people.
    """

    kind: Kind
    values: Mapping[str, Value]
    levels: tuple[str, ...] = ()
    unit: str = ""
    remarks: tuple[str, ...] = ()


#: Values of one kind, None if the cells are of no such kind, and the questions met.
Parsed: TypeAlias = tuple[ParsedColumn | None, Questions]
