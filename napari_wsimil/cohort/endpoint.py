"""Endpoints such as OS in days, and outcomes of patients."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.headers import DAYS, VITAL, stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


#: The answer that a kind, a unit or an origin is not stated.
NOT_STATED = "not stated"

#: The kinds of oncology's endpoints, and their names.
ENDPOINTS = {
    "OS": "overall survival",
    "DSS": "disease-specific survival",
    "CSS": "cancer-specific survival",
    "PFS": "progression-free survival",
    "PFI": "progression-free interval",
    "DFS": "disease-free survival",
    "DFI": "disease-free interval",
    "EFS": "event-free survival",
    "RFS": "relapse-free survival",
    "MFS": "metastasis-free survival",
    "DMFS": "distant-metastasis-free survival",
    "TTP": "time to progression",
}

UNITS = tuple(DAYS)

ORIGINS = (
    "diagnosis",
    "surgery",
    "start of treatment",
    "randomization",
    "enrollment",
    "sample collection",
)

#: The name of an endpoint of unknown kind where one is needed.
UNKNOWN = "OUTCOME"

#: cBioPortal's words for the event and for its absence.
_PORTAL = {
    "OS": ("DECEASED", "LIVING"),
    "DSS": ("DEAD WITH TUMOR", "ALIVE OR DEAD TUMOR FREE"),
    "DFS": ("Recurred/Progressed", "DiseaseFree"),
    "PFS": ("PROGRESSION", "CENSORED"),
}

#: Reasons for which a patient has no outcome.
NOT_NAMED = "no time and event"

NO_STATUS = "status not stated"

NO_TIME = "no time at all"

NO_EVENT_TIME = "event without its time"

NO_ORIGIN = "origin of the time not stated"

CENSORED_WITH_EVENT_TIME = "censored, yet with a time of the event"

NEGATIVE = "negative time"

TWO_STATUSES = "statuses disagree"

TWO_TIMES = "times disagree"


@dataclass(frozen=True)
class Endpoint:
    """Event that ends a cohort's times; unknown parts are empty.

    Attributes
    ----------
    kind
        Its abbreviation in capitals: one of `ENDPOINTS`, or the name that columns of a table
        have in common, such as "RECURRENCE".
    unit
        Unit of the times, one of `UNITS`.
    origin
        The date that times are counted from, one of `ORIGINS`, or the header of a column of dates.
    """

    kind: str = ""
    unit: str = ""
    origin: str = ""

    @property
    def columns(self) -> tuple[str, str]:
        """Headers of time and event in a table."""
        if not self.kind:
            return "time", "event"
        return f"{self.kind}_{(self.unit or 'time').upper()}", f"{self.kind}_STATUS"

    @property
    def prefix(self) -> str:
        """The kind as a table names it."""
        return self.kind or UNKNOWN

    @property
    def title(self) -> str:
        """The name of the endpoint, for people."""
        if not self.kind:
            return "Outcome of unknown kind"
        return ENDPOINTS[self.kind].capitalize() if self.kind in ENDPOINTS else self.kind

    @property
    def words(self) -> tuple[str, str]:
        """CBioPortal's words for an event and for none."""
        event, none = _PORTAL.get(self.kind, ("EVENT", "CENSORED"))
        return f"1:{event}", f"0:{none}"

    def __str__(self) -> str:
        origin = f" from {self.origin}" if self.origin else ""
        return f"{self.kind or 'unknown kind'} in {self.unit or 'an unknown unit'}{origin}"

    def completed(self, other: Endpoint, *, adds_times: bool = False) -> Endpoint:
        """Return the endpoint, completed by another one.

        Parameters
        ----------
        other
            The endpoint of other times.
        adds_times
            Whether these times join those of the endpoint: then they must be of the same
            kind and unit, and not of unknown ones.

        Raises
        ------
        RecordError
            If both state a part differently.
        """
        parts = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        for name, (ours, theirs) in parts.items():
            required = adds_times and name != "origin"
            if ours and ours != theirs and (theirs or required):
                raise RecordError(
                    f"the study's times are {self}, those of the table {other}. A study has one "
                    f"outcome in one unit: import times in columns {' and '.join(self.columns)}, "
                    "or import the table without its outcome."
                )
        return Endpoint(**{name: ours or theirs for name, (ours, theirs) in parts.items()})

    def without_header(self) -> Endpoint:
        """Return the endpoint without a table's header as origin."""
        return self if self.origin in ORIGINS else replace(self, origin="")

    @classmethod
    def of_dict(cls, content: Mapping[str, object]) -> Endpoint:
        """Return the endpoint in parsed JSON; other keys are ignored."""
        return cls(**{f.name: str(content.get(f.name, "")) for f in fields(cls)})


def kind_of(header: str) -> str:
    """Return the endpoint's kind in a header: "OS" of vital_status."""
    family = stem(header)
    kind = "OS" if family == VITAL else re.sub(r"[^A-Z0-9]+", "_", family.upper()).strip("_")
    return "" if kind == UNKNOWN else kind


@dataclass(frozen=True)
class TimeToEvent:
    """Time and event of a patient, or the reason against."""

    time: float | None = None
    event: bool | None = None
    problem: str = ""


@dataclass(frozen=True)
class OutcomeCounts:
    """Counts of outcomes.

    Attributes
    ----------
    events, censored
        How many patients (or slides) have an outcome, by whether the event happened.
    without
        How many patients have none, by reason.
    zero
        How many of the patients with an outcome have the time 0.
    noun
        "slide" where slides are counted.
    patients
        Counts of the patients beside them, where a table states outcomes of patients too.
    """

    events: int = 0
    censored: int = 0
    without: Mapping[str, int] = field(default_factory=dict)
    zero: int = 0
    noun: str = "patient"
    patients: OutcomeCounts | None = None

    @property
    def known(self) -> int:
        """How many patients or slides have an outcome."""
        return self.events + self.censored

    def to_dict(self) -> dict[str, object]:
        """Return the counts as the command line prints them."""
        patients = self.patients
        return {
            "outcomes_per": self.noun,
            "with_outcome": self.known,
            "events": self.events,
            "time_zero": self.zero,
            "without_outcome": dict(self.without),
            **({"outcomes_of_patients": patients.to_dict()} if patients else {}),
        }


def outcome_sentences(counts: OutcomeCounts) -> Iterator[str]:
    """Yield the counts in sentences."""
    events = _of(counts.events, "event")
    yield f"{_of(counts.known, counts.noun)} with an outcome: {events}, {counts.censored} censored"
    if counts.zero:
        yield f"{counts.zero} of them have the time 0, which is kept"
    if counts.without:
        reasons = ", ".join(f"{why}: {n}" for why, n in counts.without.items())
        yield f"{_of(sum(counts.without.values()), counts.noun)} without an outcome ({reasons})"
    if counts.patients is not None:
        yield from (f"beside the slides, {line}" for line in outcome_sentences(counts.patients))


def _of(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def counts_of(outcomes: Iterable[TimeToEvent], noun: str = "patient") -> OutcomeCounts:
    """Return the counts of some outcomes."""
    outcomes = tuple(outcomes)
    events = Counter(one.event for one in outcomes if one.event is not None)
    without = Counter(one.problem for one in outcomes if one.event is None)
    zero = sum(one.time == 0 for one in outcomes)
    return OutcomeCounts(events[True], events[False], dict(without.most_common()), zero, noun)
