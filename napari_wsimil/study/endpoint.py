"""Endpoint: name, unit and origin of the times of a cohort, such as OS in days from diagnosis."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from napari_wsimil.study.headers import DAYS
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The answer that a name, a unit or an origin is not stated.
NOT_STATED = "not stated"

#: The endpoints of oncology by their abbreviations.
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


@dataclass(frozen=True)
class Endpoint:
    """The event that the times of a cohort lead to; a part is empty where it is not stated.

    Attributes
    ----------
    name
        One of `ENDPOINTS`.
    unit
        Unit of the times, one of `UNITS`.
    origin
        The date that times are counted from, one of `ORIGINS`, or the header of a column of dates.
    """

    name: str = ""
    unit: str = ""
    origin: str = ""

    def __str__(self) -> str:
        name = self.name or "endpoint not stated"
        unit = f"in {self.unit}" if self.unit else "unit not stated"
        return ", ".join(filter(None, (name, unit, self.origin and f"from {self.origin}")))

    def merged(self, other: Endpoint) -> Endpoint:
        """Return the endpoint completed by another one.

        Raises
        ------
        RecordError
            If both state a part differently.
        """
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours and theirs and ours != theirs:
                raise RecordError(
                    f"the study's times are {self}, the table's are {other}: one study has one "
                    "endpoint. Import the table without its outcome, or convert its times"
                )
        parts = {f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(self)}
        return Endpoint(**parts)

    def without_header(self) -> Endpoint:
        """Return the endpoint without the header of a table as its origin."""
        return self if self.origin in ORIGINS else replace(self, origin="")

    @classmethod
    def of_dict(cls, content: Mapping[str, object]) -> Endpoint:
        """Return the endpoint in JSON that was read; other keys are ignored."""
        return cls(**{f.name: str(content.get(f.name, "")) for f in fields(cls)})
