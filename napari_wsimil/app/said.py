"""Said: what models said last of patients, and people of that, as two columns; knows no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.study.predictions import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.study.predictions import Review

#: The columns.
ANSWER, REVIEW = "last answer", "last review"


class Said:
    """The last answer and the last review of each patient who has one, by name."""

    def __init__(self, answers: Mapping[str, Answer], reviews: Mapping[str, Review]) -> None:
        self._answers, self._reviews = dict(answers), dict(reviews)
        self._digests: dict[str, str] = {}

    def column(self, kept: Answer | Review) -> str:
        """Return in which column an answer or a review is told."""
        return ANSWER if isinstance(kept, Answer) else REVIEW

    def is_first(self, kept: Answer | Review) -> bool:
        """Return whether nobody has anything in its column yet."""
        return not (self._answers if isinstance(kept, Answer) else self._reviews)

    def take(self, kept: Answer | Review) -> None:
        """Take an answer or a review for the last of its patient."""
        if isinstance(kept, Answer):
            self._answers[kept.patient] = kept
        else:
            self._reviews[kept.patient] = kept

    def forget_record(self, patient: str) -> None:
        """Look at a patient's record anew when it is asked whether an answer is of it."""
        self._digests.pop(patient, None)

    def text(self, patient: str, column: str) -> str:
        """Return the words of a cell."""
        found = (self._answers if column == ANSWER else self._reviews).get(patient)
        return "" if found is None else found.words

    def key(self, patient: str, column: str) -> tuple[float, str, float]:
        """Return what a cell with words is sorted by: risk, or class and how sure; or verdict."""
        if column == REVIEW:
            return (0.0, self._reviews[patient].words.casefold(), 0.0)
        answer = self._answers[patient]
        sure = answer.probabilities.get(answer.likeliest, 0.0)
        return (answer.risk or 0.0, answer.likeliest.casefold(), sure)

    def remark(self, patient: Patient, column: str) -> str:
        """Return why a cell is out of date, empty if it is not."""
        answer, review = self._answers.get(patient.name), self._reviews.get(patient.name)
        if column == REVIEW and review is not None and answer is not None:
            same = (review.model, review.said) == (answer.model, answer.words)
            return "" if same else f"it is of an earlier answer, {review.said}"
        if column == ANSWER and answer is not None and self._is_old(answer, patient):
            return "the record was corrected since"
        return ""

    def _is_old(self, answer: Answer, patient: Patient) -> bool:
        if not answer.record or patient.record is None:
            return False
        if patient.name not in self._digests:
            self._digests[patient.name] = patient.record.digest()
        return self._digests[patient.name] != answer.record
