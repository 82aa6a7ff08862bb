"""Saved predictions of a study's patients, and their reviews.

Only predictions under the patient's stored record are saved; those of what-if edits are not.
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
    """Prediction of a model for a patient or a slide.

    Attributes
    ----------
    patient, slide
        Names of patient and slide; `slide` is empty for a prediction from all slides.
    model, features, record
        SHA-256 in hex of weights, features and record, as in the audit log; `record` is empty
        if the model reads none.
    probabilities
        Probability by class, or of survival beyond each time, by name.
    risk
        Risk in survival models, higher for earlier events; None for classes.
    when
        Time in UTC.
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
        """The most probable class, empty for survival."""
        most = max(self.probabilities.items(), key=itemgetter(1))
        return "" if self.risk is not None else most[0]

    @property
    def words(self) -> str:
        """The most probable class with its probability, or the risk."""
        if self.risk is not None:
            return f"risk {self.risk:.3g}"
        return f"{self.likeliest} {self.probabilities[self.likeliest]:.1%}"


class Predictions:
    """Saved predictions, one per patient, slide, model and record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, predictions: Iterable[Answer]) -> None:
        """Save predictions; replace those of same model and record.

        Predictions of patients that are no longer in the study are skipped.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        with self._database.writing() as session:
            numbers = dict(session.execute(select(StoredPatient.name, StoredPatient.id)).all())
            for prediction in predictions:
                if prediction.patient in numbers:
                    _write(session, numbers[prediction.patient], prediction)

    def read(self, patient: str | None = None) -> tuple[Answer, ...]:
        """Return predictions of one or all patients, oldest first."""
        query = select(StoredPrediction).join(StoredPrediction.patient)
        if patient is not None:
            query = query.where(StoredPatient.name == patient)
        query = query.order_by(StoredPrediction.at, StoredPrediction.id)
        with self._database.reading() as session:
            load = joinedload(StoredPrediction.patient)
            return tuple(_prediction(row) for row in session.scalars(query.options(load)))

    def latest(self) -> dict[str, Answer]:
        """Return the latest prediction by patient."""
        return {prediction.patient: prediction for prediction in self.read()}


def _write(session: Session, patient: int, prediction: Answer) -> None:
    key = {"slide": prediction.slide, "model": prediction.model, "record": prediction.record}
    query = select(StoredPrediction).filter_by(patient_id=patient, **key)
    row = session.scalar(query) or StoredPrediction(patient_id=patient, **key)
    row.features, row.at = prediction.features, prediction.when.isoformat()
    values = {"probabilities": dict(prediction.probabilities), "risk": prediction.risk}
    row.answer = json.dumps(values)
    session.add(row)


def _prediction(row: StoredPrediction) -> Answer:
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
    """Verdict on a prediction."""

    AGREE = "agree"
    DISAGREE = "disagree"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Review:
    """Verdict of a person on a prediction.

    Attributes
    ----------
    patient, slide
        Names of patient and slide; `slide` is empty for a prediction from all slides.
    model, said
        SHA-256 in hex of the weights, and the prediction in words.
    verdict, why
        Verdict, and its reason in the person's words, which may be empty.
    when, who
        Time in UTC, and the user name in the operating system.
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
        """The verdict and its reason."""
        return f"{self.verdict}: {self.why}" if self.why else self.verdict.value


class Reviews:
    """Reviews of an open study, each with the user's name."""

    def __init__(self, database: Database, who: str) -> None:
        self._database, self._who = database, who

    def add(self, answer: Answer, verdict: Verdict, why: str = "") -> Review:
        """Add a review of a prediction, with an audit entry.

        Raises
        ------
        RecordError
            If the patient is no longer in the study.
        StudyError
            If the study cannot be written.
        """
        with self._database.writing() as session:
            query = select(StoredPatient).where(StoredPatient.name == answer.patient)
            patient = session.scalar(query)
            if patient is None:
                raise RecordError(f"the study has no patient {answer.patient!r}")
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
        """Return reviews of one or all patients, oldest first."""
        query = select(StoredReview).join(StoredReview.patient).order_by(StoredReview.id)
        if patient is not None:
            query = query.where(StoredPatient.name == patient)
        with self._database.reading() as session:
            rows = session.scalars(query.options(joinedload(StoredReview.patient)))
            return tuple(_review(row) for row in rows)

    def latest(self) -> dict[str, Review]:
        """Return the latest review by patient."""
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
