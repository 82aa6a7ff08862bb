"""Endpoint: which outcome the times of a cohort are of, and their unit."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from napari_wsimil.study.headers import DAYS, stem
from napari_wsimil.study.tables import Table, TableRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_TIME_COLUMN = re.compile(r"([A-Z0-9_]+)_(DAYS|WEEKS|MONTHS|YEARS|TIME)")

#: The name of an outcome of unknown kind where a name is needed.
UNKNOWN = "OUTCOME"

#: What cBioPortal calls an outcome, and its words for the event and for its absence.
_PORTAL = {
    "OS": ("Overall survival", "DECEASED", "LIVING"),
    "DSS": ("Disease-specific survival", "DEAD WITH TUMOR", "ALIVE OR DEAD TUMOR FREE"),
    "DFS": ("Disease-free survival", "Recurred/Progressed", "DiseaseFree"),
    "PFS": ("Progression-free survival", "PROGRESSION", "CENSORED"),
}


@dataclass(frozen=True)
class Endpoint:
    """The outcome of a cohort.

    Attributes
    ----------
    kind
        Its abbreviation in capitals, such as "OS" or "PFS"; empty if unknown.
    unit
        Unit of the times: days, weeks, months or years; empty if unknown.
    origin
        The date that times are counted from; empty if not stated.
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
        """The name of the outcome, for people."""
        if not self.kind:
            return "Outcome of unknown kind"
        return _PORTAL[self.kind][0] if self.kind in _PORTAL else self.kind

    @property
    def words(self) -> tuple[str, str]:
        """The words for an event and for none, as cBioPortal writes them."""
        _, event, none = _PORTAL.get(self.kind, ("", "EVENT", "CENSORED"))
        return f"1:{event}", f"0:{none}"

    def __str__(self) -> str:
        origin = f" from {self.origin}" if self.origin else ""
        return f"{self.kind or 'unknown kind'} in {self.unit or 'an unknown unit'}{origin}"

    def completed(self, other: Endpoint) -> Endpoint:
        """Return the endpoint, with what another one states where it is silent."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Endpoint(*(ours or theirs for ours, theirs in pairs))


def exported_endpoint(columns: Mapping[str, Collection[str]]) -> Endpoint | None:
    """Return the outcome whose columns an export wrote; None for none, or several.

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


def endpoint_of(header: str, unit: str = "") -> Endpoint:
    """Return the outcome that a column of events or times is of, as its header names it."""
    kind = re.sub(r"[^A-Z0-9]+", "_", stem(header).upper()).strip("_")
    return Endpoint("" if kind == UNKNOWN else kind, unit if unit in DAYS else "")


def read_endpoint(text: str | None) -> Endpoint:
    """Return the outcome that a study keeps; keys of a later version are ignored."""
    content = json.loads(text) if text else {}
    return Endpoint(**{f.name: content[f.name] for f in fields(Endpoint) if f.name in content})


def endpoint_text(endpoint: Endpoint) -> str:
    """Return an outcome as a study keeps it."""
    return json.dumps(asdict(endpoint))
