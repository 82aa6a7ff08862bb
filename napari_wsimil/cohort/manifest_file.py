"""Manifest files: a cohort as CSV, one row per slide.

Columns: `patient_id` and `slide_id` (required), `slide_path`, `feature_path`,
`mpp_override` (µm per level-0 pixel), `feature_facts` (facts on the features that a person
confirmed), `split` (train, validation or test), `label`, `time`, `event` (1 = it happened,
0 = censored), and clinical fields as a schema names them. Without `time` and `event` the
columns of an exported outcome are read, such as PFS_MONTHS and PFS_STATUS.
Paths are relative to the CSV's folder. Values of a patient are repeated in each row.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.cohort.cell_text import may_be_nobody
from napari_wsimil.cohort.endpoint import Endpoint
from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow, Split
from napari_wsimil.cohort.table import TableRow, TextTable, read_table
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema, Record

#: The columns of a manifest besides clinical ones, in the order they are written.
COLUMNS = (
    "patient_id",
    "slide_id",
    "slide_path",
    "feature_path",
    "mpp_override",
    "feature_facts",
    "split",
    "label",
    "time",
    "event",
)

#: Columns that may differ between slides if predictions are of slides.
_OF_SLIDES = ("label", "time", "event")

#: Other tools' names of our columns: CLAM's label lists and STAMP's tables.
ALIASES: Mapping[str, str] = {
    "case_id": "patient_id",
    "PATIENT": "patient_id",
    "FILENAME": "slide_id",
}

_TIME_COLUMN = re.compile(r"([A-Z0-9_]+)_(DAYS|WEEKS|MONTHS|YEARS|TIME)")


def read_manifest(path: str | Path, schema: ClinicalSchema | None = None) -> Manifest:
    """Return the cohort in a CSV file.

    Parameters
    ----------
    path
        The CSV; see the module for its columns.
    schema
        Types of the clinical columns; without it they are left unread.

    Raises
    ------
    RecordError
        If a cell is not valid, a slide is named twice, or rows of a patient disagree; the
        message names file, row, column and value.
    OSError
        If the file cannot be read.
    """
    table, endpoint = with_outcome(_renamed(read_table(path)))
    _check_columns(table, schema)
    groups: dict[str, list[Patient]] = {}
    first: dict[str, int] = {}
    for row in table.rows:
        patient = _patient(row, schema)
        _claim(first, row, patient.slides[0].slide)
        groups.setdefault(patient.name, []).append(patient)
        _check_agreement(row, groups[patient.name][0], patient)
    patients = tuple(_merged(rows) for rows in groups.values())
    return Manifest(table.path, patients, schema, endpoint)


def _renamed(table: TextTable) -> TextTable:
    names = {c: ALIASES[c] for c in table.columns if ALIASES.get(c, c) not in table.columns}
    rows = (
        TableRow(row.path, row.line, {names.get(c, c): cell for c, cell in row.cells.items()})
        for row in table.rows
    )
    return TextTable(table.path, tuple(names.get(c, c) for c in table.columns), tuple(rows))


def _check_columns(table: TextTable, schema: ClinicalSchema | None) -> None:
    for column in ("patient_id", "slide_id"):
        if column not in table.columns:
            shown = ", ".join(table.columns[:8])
            raise RecordError(f"{table.path} has no column {column!r}; it begins with {shown}")
    for one in schema.fields if schema else ():
        for column in {one.name, *one.columns} & set(COLUMNS):
            raise RecordError(f"field {one.name!r}: {column!r} is the manifest's own column")


def _patient(row: TableRow, schema: ClinicalSchema | None) -> Patient:
    time, event = row.number("time", 0, math.inf), _event(row)
    if (time is None) != (event is None):
        raise row.error("time", f"and event {row.text('event')!r}: one needs the other")
    slide = SlideRow(
        _name(row, "slide_id"),
        row.file("slide_path"),
        row.file("feature_path"),
        row.number("mpp_override", *PLAUSIBLE_MPP),
        row.text("feature_facts"),
    )
    label = row.text("label")
    return Patient(
        name=_name(row, "patient_id"),
        slides=(slide,),
        label=None if label.casefold() in MARKERS else label,
        split=_split(row),
        time=time,
        event=event,
        record=_record(row, schema),
    )


def _name(row: TableRow, column: str) -> str:
    if may_be_nobody(name := row.name(column)):
        raise row.error(column, "may name nobody: write another name, or leave the row out")
    return name


def _event(row: TableRow) -> bool | None:
    text = row.text("event")
    if text not in ("", "0", "1", "0.0", "1.0"):
        raise row.error("event", "is neither 1 (it happened) nor 0 (censored)")
    return float(text) == 1 if text else None


def _split(row: TableRow) -> Split | None:
    text = row.text("split").lower()
    words = {"": None, "val": Split.VALIDATION, **{split.value: split for split in Split}}
    if text not in words:
        raise row.error("split", f"is none of {', '.join(Split)}")
    return words[text]


def _record(row: TableRow, schema: ClinicalSchema | None) -> Record | None:
    try:
        return schema.parse(row.cells) if schema else None
    except RecordError as error:
        raise RecordError(f"{row.path}, row {row.line}, {error}") from error


def _claim(first: dict[str, int], row: TableRow, slide: str) -> None:
    if slide in first:
        raise row.error("slide_id", f"is already in row {first[slide]}")
    first[slide] = row.line


def _check_agreement(row: TableRow, one: Patient, other: Patient) -> None:
    earlier, later = _stated(one), _stated(other)
    for column in earlier:
        if earlier[column] != later[column]:
            conflict = f"differs from {earlier[column]!r} in an earlier row of patient {one.name!r}"
            slides = ": where it belongs to slides, import the table into a study of --unit slide"
            raise row.error(column, conflict + slides * (column in _OF_SLIDES))


def _stated(patient: Patient) -> dict[str, object]:
    record = dict(patient.record.values) if patient.record else {}
    own = {column: getattr(patient, column) for column in ("label", "split", "time", "event")}
    return {**own, **record}


def _merged(rows: list[Patient]) -> Patient:
    return replace(rows[0], slides=tuple(slide for row in rows for slide in row.slides))


def exported_endpoint(columns: Mapping[str, Collection[str]]) -> Endpoint | None:
    """Return the endpoint of an exported table; None if ambiguous.

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


def with_outcome(table: TextTable) -> tuple[TextTable, Endpoint]:
    """Return a table with `time` and `event`, and their endpoint."""
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
    return TextTable(table.path, (*table.columns, "time", "event"), tuple(rows)), endpoint
