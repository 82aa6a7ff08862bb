"""Inference of a schema: what the columns of a table seem to be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_wsimil.study.field import MARKERS, Absent, Field, Kind
from napari_wsimil.study.schema import ClinicalSchema
from napari_wsimil.study.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_wsimil.study.tables import Table

#: What public sources write for absence, beside our own words.
SOURCE_WORDS: Mapping[str, Absent] = {
    "'--": Absent.MISSING,  # GDC: the property has no value
    "[not available]": Absent.MISSING,  # TCGA Biotab
    "not reported": Absent.UNKNOWN,  # GDC
    "[unknown]": Absent.UNKNOWN,
    "[not applicable]": Absent.NOT_APPLICABLE,
}

#: A column of more different words than this is free text or an identifier.
MOST_CATEGORIES = 32


def infer_schema(path: str | Path, exclude: Iterable[str] = ()) -> ClinicalSchema:
    """Return a schema guessed from the cells of a CSV, flagged as inferred.

    Columns that are empty, and columns of words that hardly repeat (identifiers, free text,
    dates), become no field. Nothing is an input of a model until a person names it, and no
    unit, range or order is guessed.

    Parameters
    ----------
    path
        The CSV.
    exclude
        Columns that are no clinical fields, such as identifiers and paths.
    """
    table = read_table(path)
    skipped = set(exclude)
    guesses = (_field(table, column) for column in table.columns if column not in skipped)
    used = {cell.casefold() for row in table.rows for cell in row.cells.values()}
    return ClinicalSchema(
        name=table.path.stem,
        description=f"guessed from the {len(table.rows)} rows of {table.path.name}",
        fields=tuple(field for field in guesses if field is not None),
        absent={word: kind for word, kind in SOURCE_WORDS.items() if word in used},
        inferred=True,
    )


def _field(table: Table, column: str) -> Field | None:
    cells = [row.cells[column] for row in table.rows]
    known = [c for c in cells if c.casefold() not in MARKERS and c.casefold() not in SOURCE_WORDS]
    kind = _kind(known)
    if kind is None:
        return None
    values = _spellings(known) if kind is Kind.CATEGORY else ()
    return Field(name=column, kind=kind, group="clinical", values=values)


def _kind(cells: list[str]) -> Kind | None:
    different = {cell.casefold() for cell in cells}
    if not different:
        return None
    if different in ({"0", "1"}, {"yes", "no"}, {"true", "false"}):
        return Kind.BOOLEAN
    if all(_is_number(cell) for cell in different):
        return Kind.NUMBER
    repeats = len(different) <= MOST_CATEGORIES and len(different) <= max(2, len(cells) // 2)
    return Kind.CATEGORY if repeats else None


def _spellings(cells: list[str]) -> tuple[str, ...]:
    return tuple(sorted({cell.casefold(): cell for cell in cells}.values()))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
