"""Outcome facts: the endpoint of a study's times, and why patients or slides have none.

They are one fact of the database: kind, unit and origin of the endpoint, and the reasons by the
names of patients, and of slides where predictions are of slides.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.study.audit_entry import Act, append, drafted, per_field
from napari_wsimil.study.health import StudyError
from napari_wsimil.study.orm import Fact, StoredPatient, StoredSlide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.cohort.manifest import Patient, SlideRow

#: Name of the fact; a study that was made before it was known has none.
_FACT = "outcome"

#: Time and event by (kind of row, name).
_Times = dict[tuple[str, str], tuple[float | None, bool | None]]


@dataclass(frozen=True)
class OutcomeFacts:
    """The endpoint of a study's times, and the reasons for those without a time.

    Attributes
    ----------
    endpoint
        Empty where no import has stated it.
    without, slides
        Reasons by the names of patients, and of slides.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    without: Mapping[str, str] = field(default_factory=dict)
    slides: Mapping[str, str] = field(default_factory=dict)

    def of(self, patient: Patient) -> Patient:
        """Return a patient of the study with the reasons."""
        slides = (replace(s, no_outcome=self.slides.get(s.slide, "")) for s in patient.slides)
        reason = self.without.get(patient.name, "")
        return replace(patient, slides=tuple(slides), no_outcome=reason)


def read_outcome_facts(session: Session) -> OutcomeFacts:
    """Return the facts of a study; keys of a later version are ignored.

    Raises
    ------
    StudyError
        If they are damaged.
    """
    text = session.scalar(select(Fact.value).where(Fact.name == _FACT))
    try:
        content = json.loads(text) if text else {}
        without, slides = content.get("without", {}), content.get("without_of_slides", {})
        return OutcomeFacts(Endpoint.of_dict(content), dict(without), dict(slides))
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(
            f"the study's facts on its outcome are damaged: take them from a backup ({error})"
        ) from error


def keep_endpoint(
    session: Session, new: Endpoint, patients: Sequence[Patient], entry: tuple[str, str]
) -> None:
    """Keep the endpoint of patients who are about to be added, with an entry in the ledger.

    A study that has times already and does not know their endpoint learns it only from a
    source that states all of these times.

    Parameters
    ----------
    session
        The study's.
    new
        Of the patients' times, as far as it is known.
    patients
        Those who come.
    entry
        Who and why, for the ledger.

    Raises
    ------
    RecordError
        If new times are of another endpoint, or in another unit, than those of the study.
    """
    stored, given = _stored_times(session), _given_times(patients)
    if not given:
        return
    before = read_outcome_facts(session)
    after = new
    if stored:
        adds = any(stored.get(name) != pair for name, pair in given.items())
        after = before.endpoint.completed(new, adds_times=adds)
    if after == before.endpoint or any(given.get(n) != pair for n, pair in stored.items()):
        return
    _write(session, replace(before, endpoint=after), before)
    who, why = entry
    old = "" if before.endpoint == Endpoint() else str(before.endpoint)
    append(session, per_field(drafted(who, Act.IMPORTED, why=why), {_FACT: (old, str(after))}))


def keep_reasons(session: Session, patients: Iterable[Patient]) -> None:
    """Keep why patients who were added, or their slides, have no outcome; who has one needs none.

    Parameters
    ----------
    session
        The study's.
    patients
        Those who were taken in.
    """
    patients = tuple(patients)
    before, timed = read_outcome_facts(session), _stored_times(session)
    given = {p.name: p.no_outcome for p in patients}
    of_slides = {row.slide: row.no_outcome for p in patients for row in p.slides}
    without = {
        name: reason
        for name, reason in {**before.without, **_stated(given)}.items()
        if ("patient", name) not in timed
    }
    slides = {
        name: reason
        for name, reason in {**before.slides, **_stated(of_slides)}.items()
        if ("slide", name) not in timed
    }
    _write(session, OutcomeFacts(before.endpoint, without, slides), before)


def forget_reasons(session: Session, patient: str, slides: Collection[str]) -> None:
    """Erase the reasons why a patient and the patient's slides have no outcome."""
    before = read_outcome_facts(session)
    without = {name: reason for name, reason in before.without.items() if name != patient}
    others = {name: reason for name, reason in before.slides.items() if name not in slides}
    _write(session, OutcomeFacts(before.endpoint, without, others), before)


def _stored_times(session: Session) -> _Times:
    patients = session.scalars(select(StoredPatient).where(StoredPatient.time.is_not(None)))
    slides = session.scalars(select(StoredSlide).where(StoredSlide.time.is_not(None)))
    times: _Times = {("patient", row.name): (row.time, row.event) for row in patients}
    return times | {("slide", row.name): (row.time, row.event) for row in slides}


def _given_times(patients: Sequence[Patient]) -> _Times:
    slides: list[SlideRow] = [row for p in patients for row in p.slides if row.time is not None]
    times: _Times = {("patient", p.name): (p.time, p.event) for p in patients if p.time is not None}
    return times | {("slide", row.slide): (row.time, row.event) for row in slides}


def _stated(reasons: Mapping[str, str]) -> dict[str, str]:
    return {name: reason for name, reason in reasons.items() if reason}


def _write(session: Session, facts: OutcomeFacts, before: OutcomeFacts) -> None:
    if facts == before:
        return
    reasons = {"without": dict(facts.without), "without_of_slides": dict(facts.slides)}
    content = json.dumps(asdict(facts.endpoint) | reasons)
    session.merge(Fact(name=_FACT, value=content))
