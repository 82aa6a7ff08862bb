"""Tables in the file formats of spreadsheets, statistics and cBioPortal."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import openpyxl
import pyarrow
import pyarrow.parquet
from openpyxl.utils import get_column_letter

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.cbioportal import ARCHIVES, clinical_files
from napari_wsimil.cohort.cell_text import (
    DIGITS,
    CellText,
    text_in_cell,
    text_of_float,
    unescape_formula,
)
from napari_wsimil.cohort.table import (
    ColumnHeading,
    TableRow,
    TextTable,
    csv_cells,
    other_sheets,
    table_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_Numbered: TypeAlias = Iterator[tuple[int, list[str]]]

#: Cells as identifiers, by column and line.
_Cells: TypeAlias = dict[str, dict[int, CellText]]

#: Digits that a floating-point number of 32 bits keeps.
_SINGLE_DIGITS = 7

#: cBioPortal's rows above the header: display names, descriptions, types, priorities.
_CBIOPORTAL_ROWS = 4


def open_table(path: str | Path, sheet: str = "") -> TextTable:
    """Read a table from a file, as text.

    Formats are CSV, TSV, XLSX, Parquet and cBioPortal's. Workbooks and archives of cBioPortal
    have several tables: `sheet` selects one, the first is the default, and
    `TextTable.sheets` lists all.

    Text that is not UTF-8 is read as Windows-1252 or Latin-1. `TextTable.notes` lists this,
    a byte order mark, a delimiter other than the ending's, skipped sheets and formulas. A
    formula is never run: in text it stays text, in a spreadsheet the saved value is read.

    Raises
    ------
    RecordError
        If the file is none of these, is damaged, has no such sheet, or is no table with a
        header row.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending in _BOOKS:
        return _BOOKS[ending](path, sheet)
    if ending not in _READERS:
        known = ", ".join(sorted({*_READERS, *_BOOKS}))
        raise RecordError(f"{path.name} is no table this program reads ({known})")
    if sheet:
        raise RecordError(f"{path.name} is one table, and has no sheet {sheet!r}")
    return _READERS[ending](path)


def workbook_sheets(path: Path | str) -> tuple[str, ...]:
    """Return a workbook's sheet names; empty for other files.

    Raises
    ------
    RecordError
        If the workbook is damaged.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".xlsx":
        return ()
    with _workbook(path) as book:
        return tuple(sheet.title for sheet in book.worksheets)


def _read_text(path: Path) -> TextTable:
    return _text_table(path, path.read_bytes())


def _text_table(path: Path, raw: bytes) -> TextTable:
    text, notes = _decoded(path, raw)
    lines = text.splitlines(keepends=True)
    above = [line for line in lines[:_CBIOPORTAL_ROWS] if line.startswith("#")]
    if len(above) == _CBIOPORTAL_ROWS:
        return _read_cbioportal(path, lines, notes)
    delimiter, delimiter_notes = _delimiter(path, lines[0] if lines else "")
    table = _bared(table_of(path, csv_cells(path, io.StringIO(text, newline=""), delimiter)))
    return replace(table, notes=(*notes, *delimiter_notes, *table.notes))


def _read_cbioportal(path: Path, lines: list[str], notes: tuple[str, ...]) -> TextTable:
    rows = csv_cells(path, lines[_CBIOPORTAL_ROWS:], "\t", csv.QUOTE_NONE)
    shifted = ((line + _CBIOPORTAL_ROWS, cells) for line, cells in rows)
    table = _bared(table_of(path, shifted))
    descriptions = [line.rstrip("\r\n").lstrip("#").split("\t") for line in lines[:2]]
    headings = {
        column: ColumnHeading(*texts)
        for column, *texts in zip(table.columns, *descriptions, strict=False)
    }
    note = "cBioPortal's file of patients: names, descriptions and types are its own"
    return replace(table, notes=(*notes, note, *table.notes), headings=headings)


def _decoded(path: Path, raw: bytes) -> tuple[str, tuple[str, ...]]:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _as(path, raw, "utf-16"), ("UTF-16 text, as its byte order mark says",)
    if raw.startswith(b"\xef\xbb\xbf"):
        return _as(path, raw, "utf-8-sig"), ("UTF-8 text with a byte order mark",)
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        coding, name = _single_byte(raw)
        note = (
            f"not UTF-8 text (first in line {line}): read as {name}; look whether "
            "umlauts and accents are right, else save it as CSV UTF-8"
        )
        return _as(path, raw, coding), (note,)


def _as(path: Path, raw: bytes, coding: str) -> str:
    try:
        return raw.decode(coding)
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is no text: save it as CSV UTF-8") from error


def _single_byte(raw: bytes) -> tuple[str, str]:
    """Return Windows-1252 if a byte needs it, else Latin-1."""
    if any(0x80 <= byte < 0xA0 for byte in raw):
        return "cp1252", "Windows-1252"
    return "latin-1", "Latin-1"


def _delimiter(path: Path, header: str) -> tuple[str, tuple[str, ...]]:
    promised = "," if path.suffix.lower() == ".csv" else "\t"
    delimiter = max((promised, ",", ";", "\t"), key=header.count)
    if delimiter == promised:
        return promised, ()
    words = {",": "commas", ";": "semicolons", "\t": "tabs"}
    return delimiter, (f"cells are parted by {words[delimiter]}",)


def _read_archive(path: Path, sheet: str) -> TextTable:
    files = clinical_files(path)
    name = _chosen(path, tuple(files), sheet)
    table = _text_table(path, files[name])
    return _of_several(table, name, tuple(files), "tables in the archive")


def _chosen(path: Path, names: tuple[str, ...], sheet: str) -> str:
    if sheet and sheet not in names:
        known = ", ".join(map(repr, names))
        raise RecordError(f"{path.name} has no sheet {sheet!r}; it has {known}")
    return sheet or names[0]


def _of_several(table: TextTable, name: str, names: tuple[str, ...], what: str) -> TextTable:
    if len(names) == 1:
        return replace(table, sheet=name, sheets=names)
    which = "the first" if name == names[0] else f"number {names.index(name) + 1}"
    note = f"{which} of {len(names)} {what}, {name!r}"
    return replace(table, notes=(note, *table.notes), sheet=name, sheets=names)


def _read_spreadsheet(path: Path, name: str) -> TextTable:
    with _workbook(path) as book:
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        name = _chosen(path, tuple(sheets), name)
        try:
            cell_texts: _Cells = {}
            cells = _sheet_cells(sheets[name].iter_rows(), cell_texts)
            table = replace(_bared(table_of(path, cells)), cell_texts=cell_texts)
        except RecordError as error:
            raise RecordError(f"{error}{other_sheets(name, tuple(sheets))}") from error
    table = _of_several(table, name, tuple(sheets), "sheets")
    return replace(table, notes=(*table.notes, *_formulas(path)))


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    # The error of a damaged spreadsheet depends on the damaged part.
    try:
        with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
            yield book
    except RecordError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, SyntaxError) as error:
        raise RecordError(f"{path} is not an XLSX file, or is damaged: {error}") from error


def _sheet_cells(rows: Iterable[tuple[Any, ...]], cell_texts: _Cells) -> _Numbered:
    """Yield line numbers and cells; collect identifiers in `cell_texts`."""
    width = 0
    header: list[str] = []
    for line, row in enumerate(rows, 1):
        cells = [_text(cell.value) for cell in row]
        if not any(cells):
            continue
        width = width or max(i for i, cell in enumerate(cells, 1) if cell)
        for column, cell, text in zip(header, row, cells, strict=False):
            if (one := _cell_text(cell, line)) and (one.doubt or one.text != text):
                cell_texts.setdefault(column.strip(), {})[line] = one
        header = header or cells
        beyond = next((cell for cell in cells[width:] if cell), None)
        kept = cells if beyond is not None else cells[:width]
        yield line, kept + [""] * (width - len(kept))


def _cell_text(cell: Any, line: int) -> CellText | None:
    """Return a number or date cell as identifier, or None."""
    if cell.value is None or (isinstance(cell.value, str) and cell.value[:1] != "#"):
        return None
    place = f"{get_column_letter(cell.column)}{line}"
    return text_in_cell(place, cell.value, cell.number_format)


def _formulas(path: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        sheets = [n for n in archive.namelist() if n.startswith("xl/worksheets/sheet")]
        count = sum(archive.read(n).count(b"<f>") + archive.read(n).count(b"<f ") for n in sheets)
    if not count:
        return ()
    return (
        f"{count} cells hold formulas: the value last saved with each is taken, and one that "
        "was never computed is empty",
    )


def _read_parquet(path: Path) -> TextTable:
    try:
        content = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        if not path.is_file():
            raise
        raise RecordError(f"{path} is not a Parquet file, or is damaged: {error}") from error
    for column in content.schema:
        if pyarrow.types.is_nested(column.type):
            raise RecordError(
                f"{path}: column {column.name!r} holds lists or structures, no values"
            )
    columns = [[_text(value) for value in column.to_pylist()] for column in content.columns]
    rows = ((number, list(cells)) for number, cells in enumerate(zip(*columns, strict=True), 2))
    table = table_of(path, iter([(1, content.column_names), *rows]))
    return replace(table, cell_texts=_floats(content))


def _floats(content: pyarrow.Table) -> _Cells:
    """Return floating-point numbers that are no plain identifiers."""
    cell_texts: _Cells = {}
    for name, column in zip(content.column_names, content.columns, strict=True):
        if not pyarrow.types.is_floating(column.type):
            continue
        digits = DIGITS if column.type.bit_width == 64 else _SINGLE_DIGITS
        for line, value in enumerate(column.to_pylist(), 2):
            if value is not None and (one := text_of_float(f"row {line}", value, digits)):
                cell_texts.setdefault(name.strip(), {})[line] = one
    return cell_texts


def _bared(table: TextTable) -> TextTable:
    rows = (
        TableRow(row.path, row.line, {c: unescape_formula(cell) for c, cell in row.cells.items()})
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and not (value.hour or value.minute or value.second):
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


_READERS: Mapping[str, Callable[[Path], TextTable]] = {
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".parquet": _read_parquet,
}

#: Files of several tables, of which one is chosen.
_BOOKS: Mapping[str, Callable[[Path, str], TextTable]] = {
    ".xlsx": _read_spreadsheet,
    **dict.fromkeys(ARCHIVES, _read_archive),
}
