"""Identifiers: cells that name patients and slides, as they are shown, doubt asked about."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_wsimil.clinical.field import MARKERS
from napari_wsimil.cohort.cell_text import CellText, text_of_error
from napari_wsimil.cohort.table import TableRow
from napari_wsimil.cohort.table_import.cell_parsing import may_be_nobody
from napari_wsimil.cohort.table_import.questions import Question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.table import Table
    from napari_wsimil.cohort.table_import.questions import Asked
    from napari_wsimil.cohort.table_import.roles import Roles

#: Answers to what becomes of identifiers that are in doubt.
AS_STORED, PASS_OVER, WITHOUT_DECIMALS = (
    "as stored",
    "pass these rows over",
    "without the decimals",
)
#: Answers to what "NA" as an identifier is.
NAME, NOBODY = "a name", "no name"

_SCIENTIFIC = re.compile(r"[+-]?\d+([.,]\d+)?E[+-]?\d+", re.IGNORECASE)
_DECIMALS = re.compile(r"(\d+)\.0+")
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAY = re.compile(rf"\d{{1,4}}-({_MONTHS})|({_MONTHS})-\d{{1,4}}", re.IGNORECASE)

#: Cells that a question names beside the first.
_PLACES = 5


def with_identifiers(table: Table, roles: Roles, asked: Asked) -> Table:
    """Return a table whose cells that name patients and slides are as the file shows them.

    What cannot be known is asked: numbers of which digits are lost, dates, numbers in a
    format that says otherwise, and "NA". A cell that is passed over becomes empty.
    """
    for header in dict.fromkeys(filter(None, (roles.patient, roles.slide))):
        cells = _identified(table, header, asked)
        rows = (
            TableRow(row.path, row.line, {**row.cells, header: cells.get(row.line, "")})
            for row in table.rows
        )
        table = replace(table, rows=tuple(rows))
    return table


def _identified(table: Table, header: str, asked: Asked) -> dict[int, str]:
    """Return the identifiers in a column by line."""
    known = table.cell_texts.get(header, {})
    texts = {r.line: known.get(r.line) or _text_of_row(r, header) for r in table.rows}
    lost = {line: cell for line, cell in texts.items() if cell.doubt and not cell.text}
    doubtful = {line: cell for line, cell in texts.items() if cell.doubt and cell.text}
    cells = {line: cell.text for line, cell in texts.items()}
    if lost:
        _ask(header, "lost", lost, (PASS_OVER,), asked)
    if doubtful:
        answer = _ask(header, "doubtful", doubtful, (AS_STORED, PASS_OVER), asked)
        cells |= dict.fromkeys(doubtful if answer == PASS_OVER else (), "")
    return _without_decimals(header, _without_nobody(header, cells, asked), asked)


def _text_of_row(row: TableRow, header: str) -> CellText:
    text = row.cells[header]
    if _SCIENTIFIC.fullmatch(text):
        return CellText(
            f"row {row.line}", text, f"is {text}, perhaps a number that lost its digits"
        )
    if _DAY.fullmatch(text):
        return CellText(f"row {row.line}", text, f"is {text}, perhaps a name that became a date")
    return text_of_error(f"row {row.line}", text) or CellText(f"row {row.line}", text)


def _ask(
    header: str, kind: str, cells: Mapping[int, CellText], options: tuple[str, ...], asked: Asked
) -> str:
    first, *others = cells.values()
    also = f"; also {', '.join(c.place for c in others[:_PLACES])}" if others else ""
    more = ", …" if len(others) > _PLACES else ""
    text = (
        f"{len(cells)} identifiers in {header!r} are {kind}: {first.place} {first.doubt}{also}"
        f"{more}. Format the column as text, enter them again and import that, or choose:"
    )
    counts = dict(Counter(cell.text for cell in cells.values() if cell.text))
    return asked.ask(Question(f"{header}: {kind} identifiers", text, options, "", counts, header))


def _without_nobody(header: str, cells: dict[int, str], asked: Asked) -> dict[int, str]:
    """Return identifiers, having asked whether words such as NA are one."""
    words = Counter(c for c in cells.values() if may_be_nobody(c) and c.casefold() not in MARKERS)
    if not words:
        return cells
    text = f"{header!r} has {', '.join(words)}: is that a name, or does such a row name none?"
    can_be_names = not any("/" in word or not word.strip(".") for word in words)
    options = (NOBODY, NAME) if can_be_names else (NOBODY,)
    question = Question(f"{header}: NA", text, options, "", dict(words), header)
    if asked.ask(question) == NAME:
        return cells
    return {line: "" if cell in words else cell for line, cell in cells.items()}


def _without_decimals(header: str, cells: dict[int, str], asked: Asked) -> dict[int, str]:
    """Return identifiers, having asked whether 1001.0 is 1001, as after a detour by pandas."""
    decimals = Counter(cell for cell in cells.values() if _DECIMALS.fullmatch(cell))
    if not decimals:
        return cells
    first = next(iter(decimals))
    text = f"{header!r} has identifiers such as {first}: are the decimals part of them?"
    options = (WITHOUT_DECIMALS, AS_STORED)
    question = Question(f"{header}: decimals", text, options, "", dict(decimals), header)
    if asked.ask(question) != WITHOUT_DECIMALS:
        return cells
    return {line: _DECIMALS.sub(r"\1", c) if c in decimals else c for line, c in cells.items()}


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name).casefold()
    signs = (c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
    dashed = "".join("-" if unicodedata.category(c) == "Pd" else c for c in signs)
    return re.sub(r"(?<!\d)0+(?=\d)", "", dashed)


def lookalikes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return names that differ in case, blanks, dashes, leading zeros or code points alone."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(_folded(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
