"""Tables in: every format and encoding, as text, with notes on what was not plain."""

from __future__ import annotations

import zipfile
from datetime import date
from typing import TYPE_CHECKING

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.cell_text import escape_formula, unescape_formula
from napari_wsimil.cohort.table import LONGEST
from napari_wsimil.cohort.table_formats import open_table, workbook_sheets

if TYPE_CHECKING:
    from pathlib import Path


def _cells(path: Path) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in open_table(path).rows]


@pytest.mark.parametrize(
    ("coding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", "byte order mark"),
        ("utf-16", "UTF-16"),
        ("latin-1", "Latin-1"),
        ("cp1252", "Windows-1252"),
    ],
)
def test_an_encoding_is_recognized_and_said(tmp_path: Path, coding: str, said: str) -> None:
    path, town = tmp_path / "t.csv", "Köln – 1" if coding != "latin-1" else "Köln"
    path.write_bytes(f"patient_id,town\np1,{town}\n".encode(coding))
    table = open_table(path)
    assert table.columns == ("patient_id", "town")
    assert table.rows[0].cells["town"] == town
    assert bool(table.notes) == bool(said)
    assert said in " ".join(table.notes)


def test_what_is_not_utf8_names_the_line_to_look_at(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("patient_id,town\np1,Bonn\np2,Köln\n".encode("latin-1"))
    assert "line 3" in open_table(path).notes[0]


def test_semicolons_and_tabs_are_found_by_the_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id;ldh\np1;2,5\n")
    assert _cells(path) == [("p1", "2,5")]
    assert "semicolons" in open_table(path).notes[0]
    path.with_suffix(".tsv").write_text("patient_id\tnote\np1\ta, b\n")
    assert _cells(path.with_suffix(".tsv")) == [("p1", "a, b")]


def test_a_spreadsheet_is_text_as_people_see_it(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["patient_id", "age", "ki67", "day", "male", "note", None])
    book.active.append(["7", 54, 12.5, date(2011, 5, 27), True, None])
    book.active.append([None] * 6)
    book.active.append([8, None, 1, None, False, "x"])
    book.create_sheet("more")
    book.save(tmp_path / "t.xlsx")
    assert _cells(tmp_path / "t.xlsx") == [
        ("7", "54", "12.5", "2011-05-27", "yes", ""),
        ("8", "", "1", "", "no", "x"),
    ]
    assert "first of 2 sheets" in open_table(tmp_path / "t.xlsx").notes[0]


def test_a_formula_that_was_never_computed_is_said(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["patient_id", "sum"])
    book.active.append(["p1", "=1+1"])
    book.save(tmp_path / "t.xlsx")
    assert _cells(tmp_path / "t.xlsx") == [("p1", "")]
    assert "1 cells hold formulas" in open_table(tmp_path / "t.xlsx").notes[0]


def test_parquet_is_read_as_text_and_gaps_are_empty(tmp_path: Path) -> None:
    table = pyarrow.table({"patient_id": ["a", "b"], "age": [54.0, None], "n": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert _cells(tmp_path / "t.parquet") == [("a", "54", "1"), ("b", "", "2")]


def test_cbioportal_rows_above_the_header_describe_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "data_clinical_patient.txt"
    path.write_text(
        "#Patient\tAge at diagnosis\n#Identifier\tIn years\n#STRING\tNUMBER\n#1\t1\n"
        'PATIENT_ID\tAGE\nP-1\t54 "\nP-2\t[Not Available]\n'
    )
    table = open_table(path)
    assert table.columns == ("PATIENT_ID", "AGE")
    heading = table.headings["AGE"]
    assert (heading.title, heading.description) == ("Age at diagnosis", "In years")
    assert table.rows[0].line == 6
    assert _cells(path) == [("P-1", '54 "'), ("P-2", "[Not Available]")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"patient_id,age\np1,5,6\n", "row 2: 3 cells under 2 columns"),
        ("t.csv", b"patient_id,age,age\n", "two columns are named 'age'"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b'patient_id,age\np1,"5\n', "not a CSV file"),
        ("t.csv", b"patient_id,age\np1," + b"x" * (LONGEST + 1), "a cell has more than 100,000"),
        ("t.csv", b"patient_id,age\np1," + b"x" * 10_000_000, "row 2: a cell has more than"),
        ("t.xlsx", b"no spreadsheet", "not an XLSX file"),
        ("t.parquet", b"no parquet", "not a Parquet file"),
        ("t.xls", b"", "no table this program reads"),
    ],
)
def test_what_is_no_table_is_refused_in_words(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=reason) as caught:
        open_table(tmp_path / name)
    assert name in str(caught.value)


def test_a_spreadsheet_without_its_parts_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("../../escape.txt", "x")
    with pytest.raises(RecordError, match="not an XLSX file"):
        open_table(tmp_path / "t.xlsx")
    assert not (tmp_path.parent.parent / "escape.txt").exists()


@pytest.mark.parametrize("text", ["=1+1", "+x", "-a", "@SUM(A1)", "\tx", "'=1", "''@x", "-"])
def test_a_formula_is_guarded_and_comes_back(text: str) -> None:
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize("text", ["-5", "+1e3", "a=b", "", "'quoted'", "'--"])
def test_what_is_no_formula_is_left_alone(text: str) -> None:
    assert unescape_formula(text) == text
    assert text == "'--" or escape_formula(text) == text


def _workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_sheet_that_is_named_is_read(tmp_path: Path) -> None:
    rows = [["patient_id", "age"], ["p1", 5]]
    path = _workbook(tmp_path / "t.xlsx", notes=[["x"], ["y"]], data=rows, more=[["a"]])
    table = open_table(path, "data")
    assert [tuple(row.cells.values()) for row in table.rows] == [("p1", "5")]
    assert (table.sheet, table.sheets) == ("data", ("notes", "data", "more"))
    assert table.notes == ("number 2 of 3 sheets, 'data'",)
    assert open_table(path).columns == ("x",)
    assert workbook_sheets(path) == table.sheets


def test_a_sheet_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "t.xlsx", empty=[], data=[["patient_id"], ["p1"]])
    with pytest.raises(RecordError, match="no sheet 'Data'; it has 'empty', 'data'"):
        open_table(path, "Data")
    with pytest.raises(RecordError, match="is empty.*'empty' of 'empty', 'data': .* --sheet"):
        open_table(path)
    (tmp_path / "t.csv").write_text("patient_id\np1\n")
    with pytest.raises(RecordError, match="is one table, and has no sheet 'data'"):
        open_table(tmp_path / "t.csv", "data")
