"""Outcome facts: the endpoint of a study's times, and why patients have none."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from napari_wsimil.study.condition import StudyError
from napari_wsimil.study.endpoint import Endpoint
from napari_wsimil.study.entry import Act, append, drafted, per_field
from napari_wsimil.study.stored import Fact, StoredPatient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from napari_wsimil.study.manifest import Patient

#: Name of the fact; a study that was made before it was known has none.
_FACT = "outcome"


@dataclass(frozen=True)
class OutcomeFacts:
    """The endpoint of a study's times, and reasons by the names of patients without any."""

    endpoint: Endpoint | None = None
    without: Mapping[str, str] = field(default_factory=dict)


def read_outcome_facts(session: Session) -> OutcomeFacts:
    """Return the facts; without an endpoint where no import has stated one.

    Raises
    ------
    StudyError
        If they are damaged.
    """
    text = session.scalar(select(Fact.value).where(Fact.name == _FACT))
    if text is None:
        return OutcomeFacts()
    try:
        content = json.loads(text)
        endpoint, without = content["endpoint"], dict(content["without"])
        return OutcomeFacts(None if endpoint is None else Endpoint.of_dict(endpoint), without)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"the study's facts on its outcome are damaged: take them from a backup ({error})"
        ) from error


def note_outcomes(
    session: Session,
    patients: Iterable[Patient],
    endpoint: Endpoint | None,
    entry: tuple[str, str],
) -> None:
    """Keep the endpoint of patients who were added, and the reasons of those without times.

    An endpoint is kept where it holds for every time in the study, with a ledger entry.

    Parameters
    ----------
    session
        The study's.
    patients
        Those who were taken in.
    endpoint
        Of their times.
    entry
        Who and why, for the ledger.
    """
    patients = tuple(patients)
    before = read_outcome_facts(session)
    with_times = set(
        session.scalars(select(StoredPatient.name).where(StoredPatient.time.is_not(None)))
    )
    kept_endpoint = before.endpoint
    if endpoint is not None and with_times and with_times <= {patient.name for patient in patients}:
        kept_endpoint = endpoint if kept_endpoint is None else kept_endpoint.merged(endpoint)
    reasons = {p.name: p.no_outcome for p in patients if p.no_outcome}
    without = {n: why for n, why in {**before.without, **reasons}.items() if n not in with_times}
    if kept_endpoint != before.endpoint:
        who, why = entry
        change = {_FACT: (str(before.endpoint or ""), str(kept_endpoint))}
        append(session, per_field(drafted(who, Act.IMPORTED, why=why), change))
    _write(session, OutcomeFacts(kept_endpoint, without), before)


def forget_outcome(session: Session, patient: str) -> None:
    """Erase the reason why a patient has no outcome."""
    before = read_outcome_facts(session)
    without = {name: why for name, why in before.without.items() if name != patient}
    _write(session, OutcomeFacts(before.endpoint, without), before)


def _write(session: Session, facts: OutcomeFacts, before: OutcomeFacts) -> None:
    if facts == before:
        return
    endpoint = None if facts.endpoint is None else asdict(facts.endpoint)
    text = json.dumps({"endpoint": endpoint, "without": dict(facts.without)})
    session.merge(Fact(name=_FACT, value=text))
