"""Rows: those of each patient in a table, and the slides they name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP
from napari_wsimil.study.identifiers import lookalikes
from napari_wsimil.study.manifest import SlideRow, Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.study.roles import Roles
    from napari_wsimil.study.tables import Table, TableRow

#: Endings that a column of slides may have, which are no part of a slide's name.
_ENDINGS = re.compile(
    r"\.(svs|tiff?|ndpi|mrxs|scn|vms|vmu|bif|svslide|dcm|zarr|h5|hdf5|pt|jpe?g|png)$", re.IGNORECASE
)
_UNSAFE = re.compile(r"[/\\\x00-\x1f]|^\.+$")


def by_patient(table: Table, roles: Roles) -> tuple[dict[str, list[TableRow]], list[int]]:
    """Return rows by patient, and the lines of rows that name none.

    Raises
    ------
    RecordError
        If what should name a patient or slide is no name, such as a path.
    """
    rows: dict[str, list[TableRow]] = {}
    nameless = []
    for row in table.rows if roles.patient else ():
        for header in filter(None, (roles.patient, roles.slide)):
            if _UNSAFE.search(row.cells[header]):
                raise row.error(header, "is no name: it has a slash, a control sign, or is dots")
        name = row.cells[roles.patient or ""]
        if name.casefold() in MARKERS:
            nameless.append(row.line)
        else:
            rows.setdefault(name, []).append(row)
    return rows, nameless


def slides_of(rows: Sequence[TableRow], roles: Roles) -> list[SlideRow]:
    """Return the slides that rows of one patient name, each once."""
    named: dict[str, SlideRow] = {}
    for row in rows:
        if name := slide_name(row, roles):
            places = (row.file("slide_path"), row.file("feature_path"))
            mpp, facts = row.number("mpp_override", *PLAUSIBLE_MPP), row.text("feature_facts")
            named.setdefault(name, SlideRow(name, *places, mpp, facts))
    return list(named.values())


def notes_on(rows: Mapping[str, Sequence[TableRow]], nameless: Sequence[int]) -> list[str]:
    """Return notes on rows without a patient and on names that look alike."""
    notes = []
    if nameless:
        lines = ", ".join(map(str, nameless[:8]))
        notes.append(f"{len(nameless)} rows name no patient and are passed over: {lines}")
    notes += [
        f"{' and '.join(map(repr, alike))} are taken for different patients"
        for alike in lookalikes(tuple(rows))[:8]
    ]
    return notes


def split_of(row: TableRow, roles: Roles) -> Split | None:
    """Return the part of the cohort a row states, None if it states none."""
    if roles.split is not None:
        return roles.parts.get(row.cells[roles.split])
    text = row.text("split").lower()
    words = {"": None, "val": Split.VALIDATION, **{split.value: split for split in Split}}
    if text not in words:
        raise row.error("split", f"is none of {', '.join(Split)}")
    return words[text]


def slide_name(row: TableRow, roles: Roles) -> str:
    """Return the slide that a row names, empty if it names none."""
    name = _ENDINGS.sub("", row.cells[roles.slide]) if roles.slide else ""
    return "" if name.casefold() in MARKERS else name


def by_slide(rows: Sequence[TableRow], roles: Roles) -> dict[str, list[TableRow]]:
    """Return the rows of one patient by the slide that they name, "" for none."""
    named: dict[str, list[TableRow]] = {}
    for row in rows:
        named.setdefault(slide_name(row, roles), []).append(row)
    return named
