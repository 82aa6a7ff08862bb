"""Questions that a table leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Question:
    """What a table leaves open.

    Attributes
    ----------
    key
        What an answer is given for: "NA", "patient", "OS_STATUS: event".
    text
        The question, for people.
    options
        The possible answers.
    default
        The answer that is taken for granted and shown; empty if a person must answer.
    counts
        How often each value in question is in the table.
    column
        The column it is about, empty if it is about the table.
    """

    key: str
    text: str
    options: tuple[str, ...]
    default: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    column: str = ""

    def answer(self, answers: Mapping[str, str]) -> str:
        """Return the answer that was given, else the default.

        Raises
        ------
        RecordError
            If the answer is none of the options.
        """
        given = answers.get(self.key, self.default)
        if given and given not in self.options:
            shown = ", ".join(self.options[:12])
            raise RecordError(f"{self.key!r}: {given!r} is no answer; it is one of {shown}")
        return given


class Asked:
    """The questions asked so far, and the answers to them.

    Parameters
    ----------
    answers
        By the keys of questions.
    columns
        Those of the table: whether a status is an event depends on its times.
    strict
        Whether an answer that is none of its question's is refused; else it is dropped.
    """

    def __init__(
        self, answers: Mapping[str, str], columns: tuple[str, ...] = (), *, strict: bool = True
    ) -> None:
        self.answers, self.columns, self.strict = dict(answers), columns, strict
        self.questions: list[Question] = []

    @property
    def given(self) -> dict[str, str]:
        """The answers to what was asked."""
        keys = {question.key for question in self.questions}
        return {key: answer for key, answer in self.answers.items() if key in keys}

    def ask(self, question: Question) -> str:
        """Return the answer to a question, empty if it is open yet, and keep the question."""
        self.questions.append(question)
        if not self.strict and self.answers.get(question.key) not in question.options:
            self.answers.pop(question.key, None)
        return question.answer(self.answers)

    def check(self) -> None:
        """Raise RecordError if something was answered that was not asked."""
        keys = [question.key for question in self.questions]
        for key in self.answers:
            if key not in keys:
                asked = ", ".join(repr(key) for key in keys[:8]) or "nothing"
                raise RecordError(f"{key!r} was not asked: the table asks for {asked}")
