"""Predictions: what models said last of a study's patients, under the patients' own records.

What a model says of a record that is tried on is no prediction, and is not kept here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.study.audit_entry import Act, append, drafted
from napari_wsimil.study.orm import StoredPatient, StoredPrediction, StoredReview

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from napari_wsimil.study.database import Database


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes
    ----------
    patient, slide
        Of whom, and of which slide; empty where it is of all slides of the patient.
    model, features, record
        SHA-256 in hex of the weights, of the features and of the record, as the ledger's
        entries carry them; the last is empty where the model reads no record.
    probabilities
        Of each class, or of survival beyond each time, by name.
    risk
        Of survival, higher for who has the event earlier; None of classes.
    when
        UTC.
    """

    patient: str
    slide: str
    model: str
    features: str
    record: str
    probabilities: Mapping[str, float]
    risk: float | None = None
    when: datetime = field(default_factory=_now)

    @property
    def likeliest(self) -> str:
        """Return the name of the most probable class, empty for survival."""
        most = max(self.probabilities.items(), key=itemgetter(1))
        return "" if self.risk is not None else most[0]

    @property
    def words(self) -> str:
        """Return the likeliest class with its probability, or the risk."""
        if self.risk is not None:
            return f"risk {self.risk:.3g}"
        return f"{self.likeliest} {self.probabilities[self.likeliest]:.1%}"


class Predictions:
    """The predictions of an open study: one per patient, slide, model and record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, answers: Iterable[Answer]) -> None:
        """Keep answers, each in place of an older one of the same model under the same record.

        Those of patients who are not in the study any more are passed over.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        with self._database.writing() as session:
            numbers = dict(session.execute(select(StoredPatient.name, StoredPatient.id)).all())
            for answer in answers:
                if answer.patient in numbers:
                    _write(session, numbers[answer.patient], answer)

    def read(self, patient: str | None = None) -> tuple[Answer, ...]:
        """Return the answers, oldest first, of one patient or of all if None."""
        query = select(StoredPrediction).join(StoredPrediction.patient)
        if patient is not None:
            query = query.where(StoredPatient.name == patient)
        query = query.order_by(StoredPrediction.at, StoredPrediction.id)
        with self._database.reading() as session:
            load = joinedload(StoredPrediction.patient)
            return tuple(_answer(row) for row in session.scalars(query.options(load)))

    def latest(self) -> dict[str, Answer]:
        """Return the last answer of each patient who has one, by name."""
        return {answer.patient: answer for answer in self.read()}


def _write(session: Session, patient: int, answer: Answer) -> None:
    key = {"slide": answer.slide, "model": answer.model, "record": answer.record}
    found = select(StoredPrediction).filter_by(patient_id=patient, **key)
    row = session.scalar(found) or StoredPrediction(patient_id=patient, **key)
    row.features, row.at = answer.features, answer.when.isoformat()
    row.answer = json.dumps({"probabilities": dict(answer.probabilities), "risk": answer.risk})
    session.add(row)


def _answer(row: StoredPrediction) -> Answer:
    return Answer(
        patient=row.patient.name,
        slide=row.slide,
        model=row.model,
        features=row.features,
        record=row.record,
        when=datetime.fromisoformat(row.at),
        **json.loads(row.answer),
    )


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
