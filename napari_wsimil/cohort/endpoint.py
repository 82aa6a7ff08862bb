"""Endpoint: kind, unit and origin of the times of a cohort, such as OS in days."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.table import Table, TableRow
from napari_wsimil.cohort.table_import.headers import DAYS, VITAL, stem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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
_TIME_COLUMN = re.compile(r"([A-Z0-9_]+)_(DAYS|WEEKS|MONTHS|YEARS|TIME)")


@dataclass(frozen=True)
class Endpoint:
    """The event that the times of a cohort lead to; a part is empty where it is not stated.

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
        """Headers of time and event in a table: `time` and `event` of an unknown kind."""
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
        """The words for an event and for none, as cBioPortal writes them."""
        event, none = _PORTAL.get(self.kind, ("EVENT", "CENSORED"))
        return f"1:{event}", f"0:{none}"

    def __str__(self) -> str:
        origin = f" from {self.origin}" if self.origin else ""
        return f"{self.kind or 'unknown kind'} in {self.unit or 'an unknown unit'}{origin}"

    def completed(self, other: Endpoint, *, adds_times: bool = False) -> Endpoint:
        """Return the endpoint, with the parts that another one states where it is silent.

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
                    f"the study's times are {self}, those of the table {other}: a study has one "
                    f"outcome in one unit. Import times in columns {' and '.join(self.columns)}, "
                    "or import the table without its outcome"
                )
        return Endpoint(**{name: ours or theirs for name, (ours, theirs) in parts.items()})

    def without_header(self) -> Endpoint:
        """Return the endpoint without the header of a table as its origin."""
        return self if self.origin in ORIGINS else replace(self, origin="")

    @classmethod
    def of_dict(cls, content: Mapping[str, object]) -> Endpoint:
        """Return the endpoint in JSON that was read; other keys are ignored."""
        return cls(**{f.name: str(content.get(f.name, "")) for f in fields(cls)})


def exported_endpoint(columns: Mapping[str, Collection[str]]) -> Endpoint | None:
    """Return the endpoint whose columns an export wrote; None for none, or several.

    Parameters
    ----------
    columns
        The different cells by header.
    """
    matches = filter(None, map(_TIME_COLUMN.fullmatch, columns))
    named = (Endpoint(m[1], m[2].lower().removeprefix("time")) for m in matches)
    pairs = [
        one
        for one in named
        if one.columns[1] in columns and {*columns[one.columns[1]]} <= {"", "0", "1"}
    ]
    return pairs[0] if len(pairs) == 1 else None


def with_outcome(table: Table) -> tuple[Table, Endpoint]:
    """Return a table with `time` and `event`, and which outcome they are of."""
    cells = {header: {row.cells[header] for row in table.rows} for header in table.columns}
    endpoint = None if {"time", "event"} & {*table.columns} else exported_endpoint(cells)
    if endpoint is None:
        return table, Endpoint()
    time, event = endpoint.columns
    rows = (
        TableRow(
            row.path, row.line, {**row.cells, "time": row.cells[time], "event": row.cells[event]}
        )
        for row in table.rows
    )
    return Table(table.path, (*table.columns, "time", "event"), tuple(rows)), endpoint


def kind_of(header: str) -> str:
    """Return the kind of endpoint that a header names, "OS" of vital_status, "" for none."""
    family = stem(header)
    kind = "OS" if family == VITAL else re.sub(r"[^A-Z0-9]+", "_", family.upper()).strip("_")
    return "" if kind == UNKNOWN else kind
