"""Endpoint of a study's times, and reasons for missing outcomes.

The database stores both as one fact in JSON: kind, unit and origin of the endpoint; reasons by
the name of the patient, or of the slide in a study that predicts per slide.
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

#: Name of the fact; older studies do not have it.
_FACT = "outcome"

#: Time and event by (kind of row, name).
_Times = dict[tuple[str, str], tuple[float | None, bool | None]]


@dataclass(frozen=True)
class OutcomeFacts:
    """Endpoint of a study's times, and reasons for missing outcomes.

    Attributes
    ----------
    endpoint
        Endpoint; empty if no import has stated it.
    without, slides
        Reasons by patient, and by slide.
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    without: Mapping[str, str] = field(default_factory=dict)
    slides: Mapping[str, str] = field(default_factory=dict)

    def of(self, patient: Patient) -> Patient:
        """Return a patient of the study with its reasons."""
        slides = (replace(s, no_outcome=self.slides.get(s.slide, "")) for s in patient.slides)
        reason = self.without.get(patient.name, "")
        return replace(patient, slides=tuple(slides), no_outcome=reason)


def read_outcome_facts(session: Session) -> OutcomeFacts:
    """Return the outcome facts; keys of later versions are ignored.

    Raises
    ------
    StudyError
        If the stored text is damaged.
    """
    text = session.scalar(select(Fact.value).where(Fact.name == _FACT))
    try:
        content = json.loads(text) if text else {}
        without, slides = content.get("without", {}), content.get("without_of_slides", {})
        return OutcomeFacts(Endpoint.of_dict(content), dict(without), dict(slides))
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(
            f"the stored endpoint of the study is damaged ({error}). Restore a backup."
        ) from error


def keep_endpoint(
    session: Session, new: Endpoint, patients: Sequence[Patient], entry: tuple[str, str]
) -> None:
    """Store the endpoint of new patients, with an audit entry.

    If the study has times with an unknown endpoint, only a source that states all of these
    times completes it.

    Parameters
    ----------
    session
        Session of the study.
    new
        Endpoint of the new times, as far as known.
    patients
        Patients to be added.
    entry
        User and reason for the audit log.

    Raises
    ------
    RecordError
        If new times have another endpoint or unit than the study's.
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
    """Store the reasons for missing outcomes of added patients.

    This includes the reasons of their slides. Patients and slides with a time have none.

    Parameters
    ----------
    session
        Session of the study.
    patients
        Added patients.
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
    """Erase the reasons of a patient and the patient's slides."""
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
