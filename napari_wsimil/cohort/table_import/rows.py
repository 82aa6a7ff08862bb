"""Rows of each patient: slides, duplicates and conflicts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import MARKERS, Absent
from napari_wsimil.cohort.cell_text import has_value
from napari_wsimil.cohort.endpoint import TimeToEvent
from napari_wsimil.cohort.manifest import SlideRow, Split
from napari_wsimil.cohort.table_import.outcome import time_to_event
from napari_wsimil.cohort.table_import.roles import lookalikes
from napari_wsimil.slides.geometry import PLAUSIBLE_MPP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.cohort.table import TableRow, TextTable
    from napari_wsimil.cohort.table_import.column_plan import ColumnPlan
    from napari_wsimil.cohort.table_import.outcome import OutcomeColumns
    from napari_wsimil.cohort.table_import.roles import ColumnRoles

#: Endings that a column of slides may have, which are no part of a slide's name.
_ENDINGS = re.compile(
    r"\.(svs|tiff?|ndpi|mrxs|scn|vms|vmu|bif|svslide|dcm|zarr|h5|hdf5|pt|jpe?g|png)$", re.IGNORECASE
)

_UNSAFE = re.compile(r"[/\\\x00-\x1f]|^\.+$")

#: Answers on patients with rows that disagree.
FIRST_ROW, NO_COLUMNS, NO_PATIENTS = (
    "the first row counts",
    "leave those columns out",
    "leave those patients out",
)

#: Why a column is left out on request.
DISAGREE = "rows of a patient disagree"


@dataclass(frozen=True)
class RowConflict:
    """Different values of a column in rows of one patient.

    Attributes
    ----------
    patient
        Name of the patient.
    column
        Header of the column.
    stated
        The cells, in the order of the rows.
    """

    patient: str
    column: str
    stated: tuple[str, ...]


@dataclass(frozen=True)
class PatientRows:
    """Rows by patient.

    Attributes
    ----------
    rows
        Rows of each patient, in the order of the file.
    identical
        Rows that repeat an earlier row.
    conflicts
        By patient and column.
    """

    rows: Mapping[str, Sequence[TableRow]]
    identical: int
    conflicts: tuple[RowConflict, ...]


def _merge(
    rows: Mapping[str, Sequence[TableRow]], columns: Iterable[ColumnPlan], slides: Sequence[str]
) -> PatientRows:
    """Return the rows of patients with their conflicts.

    A missing cell disagrees with none.

    Parameters
    ----------
    rows
        By patient.
    columns
        Columns with values of a patient.
    slides
        Headers of columns that may differ between the rows of a patient.
    """
    columns = tuple(columns)
    conflicts = tuple(
        conflict
        for patient, group in rows.items()
        if len(group) > 1
        for column in columns
        if (conflict := _conflict(patient, column, group)) is not None
    )
    headers = (column.header for column in columns)
    used = tuple(dict.fromkeys((*headers, *slides)))
    different = (
        len({tuple(row.cells[header] for header in used) for row in group})
        for group in rows.values()
    )
    identical = sum(map(len, rows.values())) - sum(different)
    return PatientRows(rows, identical, conflicts)


def _stated(column: ColumnPlan, rows: Sequence[TableRow]) -> tuple[str, ...]:
    """Return the known cells of a column, each meaning once."""
    by_meaning: dict[object, str] = {}
    for row in rows:
        cell = row.cells[column.header]
        meaning = column.values.get(cell, cell)
        if meaning is not Absent.MISSING and cell:
            by_meaning.setdefault(meaning, cell)
    return tuple(by_meaning.values())


def value_of(column: ColumnPlan, rows: Sequence[TableRow]) -> Value:
    """Return a patient's first value in a column."""
    cells = _stated(column, rows)
    return column.values[cells[0]] if cells else Absent.MISSING


def _conflict(patient: str, column: ColumnPlan, rows: Sequence[TableRow]) -> RowConflict | None:
    cells = _stated(column, rows)
    return RowConflict(patient, column.header, cells) if len(cells) > 1 else None


def rows_by_patient(
    table: TextTable, roles: ColumnRoles
) -> tuple[dict[str, list[TableRow]], list[int]]:
    """Return rows by patient, and lines without a patient.

    Raises
    ------
    RecordError
        If a patient or slide has an invalid name, such as a path.
    """
    rows: dict[str, list[TableRow]] = {}
    nameless = []
    for row in table.rows if roles.patient else ():
        for header in filter(None, (roles.patient, roles.slide)):
            if _UNSAFE.search(row.cells[header]):
                raise row.error(
                    header, "is no valid name: it has a slash or control sign, or only dots"
                )
        name = row.cells[roles.patient or ""]
        if name.casefold() in MARKERS:
            nameless.append(row.line)
        else:
            rows.setdefault(name, []).append(row)
    return rows, nameless


def slides_by_patient(
    rows: Mapping[str, Sequence[TableRow]],
    columns: Sequence[ColumnPlan],
    roles: ColumnRoles,
    outcome: OutcomeColumns | None,
    *,
    slides_own: bool,
) -> dict[str, list[SlideRow]]:
    """Return slides by patient.

    With `slides_own` they have the labels and outcomes of their rows.
    """
    slides = {name: _slides(group, roles) for name, group in rows.items()}
    if not slides_own:
        return slides
    splits = {name: split_of(group, roles, columns) for name, group in rows.items()}
    return {
        name: [
            _with_own(replace(slide, split=splits[name]), named[slide.slide], roles, outcome)
            for slide in slides[name]
        ]
        for name, named in ((name, _by_slide(group, roles)) for name, group in rows.items())
    }


def _slides(rows: Sequence[TableRow], roles: ColumnRoles) -> list[SlideRow]:
    """Return the slides in rows of one patient, each once."""
    named: dict[str, SlideRow] = {}
    for row in rows:
        if name := slide_name(row, roles):
            paths = (row.file("slide_path"), row.file("feature_path"))
            mpp, facts = row.number("mpp_override", *PLAUSIBLE_MPP), row.text("feature_facts")
            named.setdefault(name, SlideRow(name, *paths, mpp, facts))
    return list(named.values())


def notes_on(rows: Mapping[str, Sequence[TableRow]], nameless: Sequence[int]) -> list[str]:
    """Return notes on rows without patient and on similar names."""
    notes = []
    if nameless:
        lines = ", ".join(map(str, nameless[:8]))
        notes.append(f"{len(nameless)} rows without a patient are skipped: {lines}")
    notes += [
        f"{' and '.join(map(repr, alike))} are read as different patients"
        for alike in lookalikes(tuple(rows))[:8]
    ]
    return notes


def own_rows(rows: Sequence[TableRow], roles: ColumnRoles) -> list[TableRow]:
    """Return rows without a slide, with the patient's own outcome."""
    return [row for row in rows if not slide_name(row, roles)]


def _split_of_row(row: TableRow, roles: ColumnRoles) -> Split | None:
    """Return the split in a row, or None."""
    if roles.split is not None:
        return roles.parts.get(row.cells[roles.split])
    text = row.text("split").lower()
    words = {"": None, "val": Split.VALIDATION, **{split.value: split for split in Split}}
    if text not in words:
        raise row.error("split", f"is none of {', '.join(Split)}")
    return words[text]


def slide_name(row: TableRow, roles: ColumnRoles) -> str:
    """Return the slide in a row, or an empty text."""
    name = _ENDINGS.sub("", row.cells[roles.slide]) if roles.slide else ""
    return "" if name.casefold() in MARKERS else name


def _by_slide(rows: Sequence[TableRow], roles: ColumnRoles) -> dict[str, list[TableRow]]:
    """Return rows of one patient by slide, or ""."""
    named: dict[str, list[TableRow]] = {}
    for row in rows:
        named.setdefault(slide_name(row, roles), []).append(row)
    return named


def merge_rows(
    rows: Mapping[str, Sequence[TableRow]],
    columns: Sequence[ColumnPlan],
    roles: ColumnRoles,
    outcome: OutcomeColumns | None,
    *,
    slides_own: bool,
) -> PatientRows:
    """Return rows by patient, with duplicates and conflicts.

    Labels and outcomes of slides are compared within a slide only.
    """
    timed = outcome.stated_columns if outcome else ()
    of_slides = {roles.label, *(column.header for column in timed)} if slides_own else set()
    speaking = _speaking(columns, roles)
    slides = [roles.slide] if roles.slide else []
    own = [column for column in speaking if column.header in of_slides]
    merged = _merge(
        rows,
        [column for column in speaking if column.header not in of_slides],
        [*slides, *(column.header for column in own)],
    )
    if not own:
        return merged
    per_slide = {
        (patient, slide): group
        for patient, mine in rows.items()
        for slide, group in _by_slide(mine, roles).items()
    }
    within_slides = _merge(
        {f"{p}\0{s}": group for (p, s), group in per_slide.items()}, own, slides
    ).conflicts
    conflicts = (replace(c, patient=c.patient.partition("\0")[0]) for c in within_slides)
    return replace(merged, conflicts=(*merged.conflicts, *conflicts))


def _speaking(columns: Sequence[ColumnPlan], roles: ColumnRoles) -> list[ColumnPlan]:
    """Return the columns of fields, class and split."""
    own = (roles.label, roles.split, "split")
    return [c for c in columns if c.field is not None or c.header in own]


def without_varying(
    columns: Sequence[ColumnPlan],
    rows: Mapping[str, Sequence[TableRow]],
    outcome: OutcomeColumns | None,
) -> tuple[ColumnPlan, ...]:
    """Return the columns without outcome fields that vary between slides."""
    headers = {column.header for column in outcome.stated_columns} if outcome else set()
    own = [column for column in columns if column.header in headers]
    varying = {conflict.column for conflict in _merge(rows, own, ()).conflicts}
    why = "the outcome of slides"
    return tuple(replace(c, field=None, why=why) if c.header in varying else c for c in columns)


def _with_own(
    slide: SlideRow, rows: Sequence[TableRow], roles: ColumnRoles, outcome: OutcomeColumns | None
) -> SlideRow:
    own = TimeToEvent() if outcome is None else time_to_event(outcome, rows)
    label = label_of(rows, roles)
    return replace(slide, label=label, time=own.time, event=own.event, no_outcome=own.problem)


def label_of(rows: Sequence[TableRow], roles: ColumnRoles) -> str | None:
    """Return the first class in rows, or None."""
    cells = (row.cells[roles.label] for row in rows if roles.label)
    return next((cell for cell in cells if has_value(cell)), None)


def split_of(
    rows: Sequence[TableRow], roles: ColumnRoles, columns: Sequence[ColumnPlan]
) -> Split | None:
    """Return the first split in a patient's rows, or None."""
    own = ("split", roles.split)
    if any(column.header in own and column.why == DISAGREE for column in columns):
        return None
    return next(filter(None, (_split_of_row(row, roles) for row in rows)), None)
