"""Predictions: what models said last of a study's patients, under the patients' own records.

What a model says of a record that is tried on is no prediction, and is not kept here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from napari_wsimil.study.stored import StoredPatient, StoredPrediction

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
