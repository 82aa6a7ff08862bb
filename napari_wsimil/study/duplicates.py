"""Duplicates: rows of a table that say the same of a patient, and rows that disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import Absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.study.draft import Column
    from napari_wsimil.study.tables import TableRow


@dataclass(frozen=True)
class Conflict:
    """What rows of one patient state differently.

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
class Merged:
    """Rows by patient.

    Attributes
    ----------
    rows
        Of each patient, in the order of the file.
    identical
        How many rows say nothing that an earlier row does not say.
    conflicts
        By patient and column.
    """

    rows: Mapping[str, Sequence[TableRow]]
    identical: int
    conflicts: tuple[Conflict, ...]


def merge(
    rows: Mapping[str, Sequence[TableRow]], columns: Iterable[Column], slides: Sequence[str]
) -> Merged:
    """Return the rows of patients, told apart by what they say.

    A cell that states nothing (missing) disagrees with none.

    Parameters
    ----------
    rows
        By patient.
    columns
        Those that say something of a patient.
    slides
        Headers of columns that may differ between the rows of a patient.
    """
    columns = tuple(columns)
    conflicts = tuple(
        conflict
        for patient, some in rows.items()
        if len(some) > 1
        for column in columns
        if (conflict := _conflict(patient, column, some)) is not None
    )
    said = (column.header for column in columns)
    used = tuple(dict.fromkeys((*said, *slides)))
    identical = sum(len(some) - _different(some, used) for some in rows.values())
    return Merged(rows, identical, conflicts)


def stated(column: Column, rows: Sequence[TableRow]) -> tuple[str, ...]:
    """Return the cells of a column that state something, those of one meaning once."""
    found: dict[object, str] = {}
    for row in rows:
        cell = row.cells[column.header]
        meaning = column.values.get(cell, cell)
        if meaning is not Absent.MISSING and cell:
            found.setdefault(meaning, cell)
    return tuple(found.values())


def value_of(column: Column, rows: Sequence[TableRow]) -> Value:
    """Return what rows of one patient state in a column, the first where they disagree."""
    cells = stated(column, rows)
    return column.values[cells[0]] if cells else Absent.MISSING


def _conflict(patient: str, column: Column, rows: Sequence[TableRow]) -> Conflict | None:
    cells = stated(column, rows)
    return Conflict(patient, column.header, cells) if len(cells) > 1 else None


def _different(rows: Sequence[TableRow], used: tuple[str, ...]) -> int:
    return len({tuple(row.cells[header] for header in used) for row in rows})
