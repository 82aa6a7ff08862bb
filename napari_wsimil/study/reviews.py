"""Reviews: people's verdicts on what models said of a study's patients, only added to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from napari_wsimil.cohort.table import RecordError
from napari_wsimil.study.entry import Act, append, drafted
from napari_wsimil.study.stored import StoredPatient, StoredReview

if TYPE_CHECKING:
    from napari_wsimil.study.database import Database
    from napari_wsimil.study.predictions import Answer


class Verdict(StrEnum):
    """What a person holds of an answer."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Review:
    """A person's verdict on an answer.

    Attributes
    ----------
    patient, slide
        Of whom it was said, and of which slide; empty where it was of all slides.
    model, said
        SHA-256 in hex of the weights, and the answer in words.
    verdict, why
        What the person holds of it, and their words, which may be empty.
    when, who
        UTC, and the name of the user of the operating system.
    """

    patient: str
    slide: str
    model: str
    said: str
    verdict: Verdict
    why: str
    when: datetime
    who: str

    @property
    def words(self) -> str:
        """Return the verdict and why."""
        return f"{self.verdict}: {self.why}" if self.why else self.verdict.value


class Reviews:
    """The reviews of an open study; `who` is written beside each."""

    def __init__(self, database: Database, who: str) -> None:
        self._database, self._who = database, who

    def add(self, answer: Answer, verdict: Verdict, why: str = "") -> Review:
        """Add a verdict on an answer, with its entry in the ledger, and return it.

        Raises
        ------
        RecordError
            If the study has no such patient any more.
        StudyError
            If it cannot be written.
        """
        with self._database.writing() as session:
            known = select(StoredPatient).where(StoredPatient.name == answer.patient)
            patient = session.scalar(known)
            if patient is None:
                raise RecordError(f"there is no patient {answer.patient!r} in the study")
            row = StoredReview(
                patient=patient,
                slide=answer.slide,
                at=datetime.now(UTC).isoformat(),
                who=self._who,
                verdict=verdict.value,
                why=why.strip(),
                model=answer.model,
                said=answer.words,
            )
            session.add(row)
            entry = drafted(
                self._who,
                Act.REVIEWED,
                patient=answer.patient,
                field=f"review of {answer.slide}" if answer.slide else "review",
                old=answer.words,
                new=verdict.value,
                why=row.why,
                model=answer.model,
                features=answer.features,
                record=answer.record,
            )
            append(session, [entry])
            return _review(row)

    def read(self, patient: str | None = None) -> tuple[Review, ...]:
        """Return the reviews, oldest first, of one patient or of all if None."""
        query = select(StoredReview).join(StoredReview.patient).order_by(StoredReview.id)
        if patient is not None:
            query = query.where(StoredPatient.name == patient)
        with self._database.reading() as session:
            rows = session.scalars(query.options(joinedload(StoredReview.patient)))
            return tuple(_review(row) for row in rows)

    def latest(self) -> dict[str, Review]:
        """Return the last review of each patient who has one, by name."""
        return {review.patient: review for review in self.read()}


def _review(row: StoredReview) -> Review:
    return Review(
        patient=row.patient.name,
        slide=row.slide,
        model=row.model,
        said=row.said,
        verdict=Verdict(row.verdict),
        why=row.why,
        when=datetime.fromisoformat(row.at),
        who=row.who,
    )
