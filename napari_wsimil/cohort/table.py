"""Tables of text with the line number of each row."""

from __future__ import annotations

import csv
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_wsimil.cohort.cell_text import CellText

#: The most characters of a cell; longer text is no clinical value.
LONGEST = 100_000

#: Headers by pandas for an index without a name.
_INDEX = re.compile(r"Unnamed: \d+(\.\d+)?|__index_level_\d+__")

#: Columns of a split file.
_PARTS = {"train", "val", "valid", "validation", "test"}


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
        """Return a cell; empty without such a column."""
        return self.cells.get(column, "")

    def error(self, column: str, reason: str) -> RecordError:
        """Return an error with file, row, column, value and reason."""
        place = f"{self.path}, row {self.line}, column {column!r}"
        return RecordError(f"{place}: {self.text(column)!r} {reason}")

    def name(self, column: str) -> str:
        """Return a cell that must not be empty."""
        if not self.text(column):
            raise self.error(column, "names nothing: every row needs one")
        return self.text(column)

    def file(self, column: str) -> Path | None:
        """Return the path in a cell, from the table's folder."""
        text = self.text(column)
        return Path(os.path.abspath(self.path.parent / text)) if text else None

    def number(self, column: str, low: float, high: float) -> float | None:
        """Return the number in a cell, None if empty.

        It must be finite and between `low` and `high`.
        """
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
class ColumnHeading:
    """Title, description and type of a column in its file."""

    title: str = ""
    description: str = ""


@dataclass(frozen=True)
class TextTable:
    """Table of text cells, as read from a file.

    Attributes
    ----------
    path
        The file.
    columns
        Their names, in order.
    rows
        In order; blank ones are left out.
    notes
        Notes on reading the file, in sentences.
    headings
        By column; empty but for files that describe their columns.
    sheet, sheets
        Which of the file's tables this is, and which there are; empty where it is one table.
    cell_texts
        By column and line, the cells of typed files that are no plain text, as identifiers.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    headings: Mapping[str, ColumnHeading] = field(default_factory=dict)
    sheet: str = ""
    sheets: tuple[str, ...] = ()
    cell_texts: Mapping[str, Mapping[int, CellText]] = field(default_factory=dict)


def read_table(path: str | Path) -> TextTable:
    """Read a UTF-8 CSV file with a header row.

    Raises
    ------
    RecordError
        If the file is no such CSV: not UTF-8 text, no header, a column named twice or not
        at all, a cell too long for a value, or a row with more or fewer cells than the
        header. Blank lines are skipped.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return table_of(path, csv_cells(path, file))
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error


def csv_cells(
    path: Path | str, lines: Iterable[str], delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL
) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and cells of delimited text.

    Blank lines are skipped.

    Raises
    ------
    RecordError
        If the text is not so delimited.
    """
    path = Path(path)
    reader = csv.reader(lines, strict=True, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]  # its literals
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        if "field limit" in str(error):
            raise RecordError(_too_long(path, reader.line_num)) from error
        raise RecordError(f"{path}, row {reader.line_num}: is not a CSV file: {error}") from error


def table_of(path: Path | str, records: Iterable[tuple[int, list[str]]]) -> TextTable:
    """Return the table of numbered rows, headers first.

    Raises
    ------
    RecordError
        If there is no header, a column is named twice or not at all, a cell is too long for
        a value, or a row's number of cells is not the header's; or the table is a split.
    """
    path = Path(path)
    numbered = iter(records)
    columns = _header(path, next(numbered, (1, []))[1])
    rows = tuple(_row(path, line, columns, cells) for line, cells in numbered)
    return _without_index(TextTable(path, columns, rows))


def _without_index(table: TextTable) -> TextTable:
    """Return a table without nameless index columns.

    pandas writes such an index, under no name or as "Unnamed: 0".

    Raises
    ------
    RecordError
        If a column of no name has something else.
    """
    positions = enumerate(table.columns, 1)
    notes = {c: note for number, c in positions if (note := _index_note(table, number, c))}
    if not notes:
        return table
    columns = tuple(column for column in table.columns if column not in notes)
    rows = (
        TableRow(row.path, row.line, {column: row.cells[column] for column in columns})
        for row in table.rows
    )
    return replace(table, columns=columns, rows=tuple(rows), notes=tuple(notes.values()))


def _index_note(table: TextTable, number: int, column: str) -> str:
    """Return the note on a dropped index column, else empty."""
    is_nameless = column == _nameless(number)
    if not (is_nameless or _INDEX.fullmatch(column)):
        return ""
    cells = [row.cells[column] for row in table.rows]
    name = "no name" if is_nameless else f"the name {column!r}"
    if not any(cells):
        return f"column {number} has {name} and is empty: it is dropped" if is_nameless else ""
    if _numbers_rows(cells):
        return f"column {number} has {name} and numbers the rows: it is dropped"
    if is_nameless:
        first = next(filter(None, cells))
        raise RecordError(
            f"{table.path}: column {number} has no name, and does not number the rows (its first "
            f"value is {first!r}): name the column, or delete it"
        )
    return ""


def _numbers_rows(cells: Sequence[str]) -> bool:
    numbers = [str(number) for number in range(len(cells) + 1)]
    return list(cells) in (numbers[:-1], numbers[1:])


def _nameless(number: int) -> str:
    return f"\0column {number}"


def _refuse_split(path: Path, columns: Sequence[str]) -> None:
    """Raise RecordError if columns are those of CLAM's split files."""
    names = {column.casefold() for column in columns if column and not _INDEX.fullmatch(column)}
    if len(names) > 1 and "train" in names and names <= _PARTS:
        shown = ", ".join(filter(None, columns))
        raise RecordError(
            f"{path} looks like a split file: its columns are {shown}, and a cell names a slide "
            "of a part. A table of patients has a row for each patient or slide"
        )


def write_table(path: str | Path, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write rows of text as a UTF-8 CSV file."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _header(path: Path, cells: list[str]) -> tuple[str, ...]:
    """Return the names of columns, placeholders for missing ones."""
    columns = tuple(cell.strip() for cell in cells)
    if not any(columns):
        raise RecordError(f"{path} is empty: the first row must name the columns")
    _refuse_split(path, columns)
    for number, column in enumerate(columns, 1):
        if column and column in columns[: number - 1]:
            raise RecordError(f"{path}: two columns are named {column!r}")
    return tuple(column or _nameless(number) for number, column in enumerate(columns, 1))


def _row(path: Path, line: int, columns: tuple[str, ...], cells: list[str]) -> TableRow:
    if len(cells) != len(columns):
        raise RecordError(
            f"{path}, row {line}: {len(cells)} cells under {len(columns)} columns: "
            "a comma (or whatever parts cells) inside a value needs quotes around it"
        )
    if max(map(len, cells), default=0) > LONGEST:
        raise RecordError(_too_long(path, line))
    return TableRow(path, line, {c: cell.strip() for c, cell in zip(columns, cells, strict=True)})


def _too_long(path: Path, line: int) -> str:
    return (
        f"{path}, row {line}: a cell has more than {LONGEST:,} characters, which is no clinical "
        "value: is a quote not closed, or a document pasted in?"
    )


def other_sheets(name: str, names: tuple[str, ...]) -> str:
    """Return a hint that lists the sheets, empty for one."""
    known = ", ".join(map(repr, names))
    return f" (this is {name!r} of {known}: choose one with --sheet)" if len(names) > 1 else ""
