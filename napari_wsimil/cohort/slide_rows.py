"""Slide rows: what the rows of a table state of a patient, and of each slide for itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.cohort.table_import.cell_parsing import says
from napari_wsimil.cohort.table_import.rows import Merged, by_slide, merge, split_of
from napari_wsimil.cohort.time_to_event import TimeToEvent, time_to_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.manifest import SlideRow, Split
    from napari_wsimil.cohort.table import TableRow
    from napari_wsimil.cohort.table_import.column_plan import Column
    from napari_wsimil.cohort.table_import.outcome import Outcome
    from napari_wsimil.cohort.table_import.roles import Roles

#: Why a column is left out on request.
DISAGREE = "rows of a patient disagree"


def merged_rows(
    rows: Mapping[str, Sequence[TableRow]],
    columns: Sequence[Column],
    roles: Roles,
    outcome: Outcome | None,
    *,
    slides_own: bool,
) -> Merged:
    """Return rows by patient; label and outcome of slides disagree within one slide only."""
    timed = outcome.stated_columns if outcome else ()
    of_slides = {roles.label, *(column.header for column in timed)} if slides_own else set()
    speaking = _speaking(columns, roles)
    slides = [roles.slide] if roles.slide else []
    own = [column for column in speaking if column.header in of_slides]
    merged = merge(
        rows,
        [column for column in speaking if column.header not in of_slides],
        [*slides, *(column.header for column in own)],
    )
    if not own:
        return merged
    per_slide = {
        (patient, slide): some
        for patient, mine in rows.items()
        for slide, some in by_slide(mine, roles).items()
    }
    found = merge({f"{p}\0{s}": some for (p, s), some in per_slide.items()}, own, slides).conflicts
    conflicts = (replace(c, patient=c.patient.partition("\0")[0]) for c in found)
    return replace(merged, conflicts=(*merged.conflicts, *conflicts))


def _speaking(columns: Sequence[Column], roles: Roles) -> list[Column]:
    """Return the columns that say something of a patient: fields, class and split."""
    own = (roles.label, roles.split, "split")
    return [c for c in columns if c.field is not None or c.header in own]


def without_varying(
    columns: Sequence[Column], rows: Mapping[str, Sequence[TableRow]], outcome: Outcome | None
) -> tuple[Column, ...]:
    """Return the columns; one of an outcome that slides of a patient differ in is no field."""
    headers = {column.header for column in outcome.stated_columns} if outcome else set()
    own = [column for column in columns if column.header in headers]
    varying = {conflict.column for conflict in merge(rows, own, ()).conflicts}
    why = "the outcome of slides"
    return tuple(replace(c, field=None, why=why) if c.header in varying else c for c in columns)


def with_own(
    slides: Sequence[SlideRow],
    split: Split | None,
    rows: Sequence[TableRow],
    roles: Roles,
    outcome: Outcome | None,
) -> list[SlideRow]:
    """Return slides of a patient with label and outcome of their rows, and the patient's split."""
    named = by_slide(rows, roles)
    return [_with_own(replace(s, split=split), named[s.slide], roles, outcome) for s in slides]


def _with_own(
    slide: SlideRow, rows: Sequence[TableRow], roles: Roles, outcome: Outcome | None
) -> SlideRow:
    own = TimeToEvent() if outcome is None else time_to_event(outcome, rows)
    label = label_of(rows, roles)
    return replace(slide, label=label, time=own.time, event=own.event, no_outcome=own.problem)


def label_of(rows: Sequence[TableRow], roles: Roles) -> str | None:
    """Return the first class that some rows state; None if they state none."""
    cells = (row.cells[roles.label] for row in rows if roles.label)
    return next((cell for cell in cells if says(cell)), None)


def split_stated(rows: Sequence[TableRow], roles: Roles, columns: Sequence[Column]) -> Split | None:
    """Return the first split that rows of a patient state; None if it is left out."""
    own = ("split", roles.split)
    if any(column.header in own and column.why == DISAGREE for column in columns):
        return None
    return next(filter(None, (split_of(row, roles) for row in rows)), None)
