"""Table: the cells of a CSV file, as text, with the line each row came from."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RecordError(ValueError):
    """A table, schema or record is not valid; the message names file, row, column, value."""


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes
    ----------
    path
        The file.
    line
        Line of the file the row ends on, counted from 1 as an editor shows it.
    cells
        Stripped text by column name.
    """

    path: Path
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """Return a cell, empty where the table has no such column."""
        return self.cells.get(column, "")

    def error(self, column: str, reason: str) -> RecordError:
        """Return the error that names file, row, column and value, and says `reason`."""
        place = f"{self.path}, row {self.line}, column {column!r}"
        return RecordError(f"{place}: {self.text(column)!r} {reason}")

    def name(self, column: str) -> str:
        """Return a cell that must not be empty."""
        if not self.text(column):
            raise self.error(column, "names nothing: every row needs one")
        return self.text(column)

    def file(self, column: str) -> Path | None:
        """Return the absolute path in a cell, which is relative to the table's folder."""
        text = self.text(column)
        return Path(os.path.abspath(self.path.parent / text)) if text else None

    def number(self, column: str, low: float, high: float) -> float | None:
        """Return the finite number in a cell, which must lie between two, or None if empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            number = float(text)
        except ValueError as error:
            raise self.error(column, "is not a number") from error
        if not (low <= number <= high and math.isfinite(number)):
            raise self.error(column, f"is not a finite number from {low:g} to {high:g}")
        return number


@dataclass(frozen=True)
class Table:
    """A CSV file read as text: nothing is typed, nothing is taken for absent."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def read_table(path: str | Path) -> Table:
    """Return the cells of a UTF-8 CSV file with a header row.

    Raises
    ------
    RecordError
        If the file is no such CSV: not UTF-8 text, no header, a column named twice or not
        at all, or a row whose number of cells is not the header's. Blank lines are passed.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = _header(path, next(reader, []))
            rows = tuple(_row(path, reader.line_num, columns, cells) for cells in reader if cells)
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    except csv.Error as error:
        raise RecordError(f"{path} is not a CSV file: {error}") from error
    return Table(path, columns, rows)


def write_table(path: str | Path, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write rows of text as a UTF-8 CSV file."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _header(path: Path, cells: list[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    if not any(columns):
        raise RecordError(f"{path} is empty: the first row must name the columns")
    for number, column in enumerate(columns, 1):
        if not column:
            raise RecordError(f"{path}: column {number} has no name")
        if column in columns[: number - 1]:
            raise RecordError(f"{path}: two columns are named {column!r}")
    return columns


def _row(path: Path, line: int, columns: tuple[str, ...], cells: list[str]) -> TableRow:
    if len(cells) != len(columns):
        raise RecordError(
            f"{path}, row {line}: {len(cells)} cells under {len(columns)} columns: "
            "a comma inside a value needs quotes around it"
        )
    return TableRow(path, line, {c: cell.strip() for c, cell in zip(columns, cells, strict=True)})
