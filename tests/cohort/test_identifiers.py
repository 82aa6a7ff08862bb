"""Identifiers in tables: as a spreadsheet shows them, in doubt asked, never merged silently."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from table_plans import add_answers, plan_import

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.cohort.table_import.roles import (
    AS_STORED,
    NAME,
    NOBODY,
    PASS_OVER,
    WITHOUT_DECIMALS,
)
from napari_wsimil.study.create_study import open_study

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_wsimil.cohort.table_import.plan import ImportPlan


def _workbook(path: Path, cells: Sequence[tuple[Any, str]], column: str = "patient_id") -> Path:
    """Write a workbook with a column of values in number formats, and one of numbers."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([column, "ldh"] if column == "patient_id" else ["patient_id", column])
    place = 1 if column == "patient_id" else 2
    for number, (value, number_format) in enumerate(cells):
        sheet.append([value, number] if place == 1 else [f"p{number}", value])
        if number_format:
            sheet.cell(row=number + 2, column=place).number_format = number_format
    book.save(path)
    return path


def _plan(path: Path, **answers: str) -> ImportPlan:
    named = {key.replace("_", " "): answer for key, answer in answers.items()}
    return plan_import(open_table(path), {f"patient_id: {k}": a for k, a in named.items()})


def _names(plan: ImportPlan) -> list[str]:
    return [patient.name for patient in plan.patients()]


def _text_table(folder: Path, *names: str) -> Path:
    path = folder / "t.csv"
    rows = (f"{name},{number}" for number, name in enumerate(names))
    path.write_text("\n".join(("patient_id,ldh", *rows)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("value", "number_format", "shown"),
    [
        (14629281, "0000000000", "0014629281"),
        (7, "000", "007"),
        (1234, "000", "1234"),
        (7, "0", "7"),
        (123456789012345, "0", "123456789012345"),
        (7, '"P"000', "P007"),
        (12345, '"P"000', "P12345"),
        (123456789, "000-00-0000", "123-45-6789"),
        (123456789, r"000\-00\-0000", "123-45-6789"),
        (14629281, "General", "14629281"),
        (14629281.0, "General", "14629281"),
        ("0014", "@", "0014"),
        ("12345678901234567", "General", "12345678901234567"),
        (True, "General", "TRUE"),
        (datetime(2011, 5, 27), "yyyy-mm-dd", "2011-05-27"),
    ],
)
def test_an_identifier_is_read_as_a_spreadsheet_shows_it(
    tmp_path: Path, value: object, number_format: str, shown: str
) -> None:
    path = _workbook(tmp_path / "t.xlsx", [(value, number_format), ("other", "")])
    plan = _plan(path)
    assert plan.open == ()
    assert _names(plan) == [shown, "other"]


def test_zeros_of_a_format_are_no_part_of_clinical_numbers(tmp_path: Path) -> None:
    cells = [(5, '0" years"'), (61, '0" years"'), (72, "000")]
    plan = _plan(_workbook(tmp_path / "t.xlsx", cells, "age"))
    assert [patient.record["age"] for patient in plan.patients()] == [5.0, 61.0, 72.0]


def test_slides_are_named_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "t.xlsx", [(11, "0000"), (12, "0000")], "slide_id")
    assert [p.slides[0].slide for p in _plan(path).patients()] == ["0011", "0012"]


def test_seventeen_digits_merge_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [(12345678901234560 + number, "0") for number in range(6)]
    path = _workbook(tmp_path / "t.xlsx", [*cells, ("kept", "")])
    study = str(tmp_path / "s")
    assert main(["study", "create", study]) == 0
    arguments = ["study", "import", study, "--table", str(path), "--keep-names"]
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert "6 identifiers in 'patient_id' are lost: A2 is the number 12345678901234560" in shown.out
    assert "; also A3, A4, A5, A6, A7. Format the column as text" in shown.out
    assert "answer 'patient_id: lost identifiers'" in shown.err
    assert main([*arguments, "--answer", f"patient_id: lost identifiers={PASS_OVER}"]) == 0
    with open_study(study) as opened:
        assert [patient.name for patient in opened.manifest().patients] == ["kept"]


@pytest.mark.parametrize(
    ("value", "number_format", "doubt", "stored"),
    [
        (123456789012, "General", "A2 is the number 123456789012, shown as 1.23457E+11", None),
        (1234, "#,##0", "A2 is the number 1234, shown as '#,##0'", None),
        (1234, "0.00E+00", "A2 is the number 1234, shown as '0.00E+00'", None),
        (12.5, "General", "A2 is 12.5, a number with decimals", None),
        (date(2024, 2, 1), "d-mmm", "A2 is a date or time (2024-02-01)", "2024-02-01"),
    ],
)
def test_what_shows_otherwise_than_it_is_stored_is_asked_with_its_cell(
    tmp_path: Path, value: object, number_format: str, doubt: str, stored: str | None
) -> None:
    path = _workbook(tmp_path / "t.xlsx", [(value, number_format), ("other", "")])
    (question,) = _plan(path).open
    assert question.key == "patient_id: doubtful identifiers"
    assert doubt in question.text
    names = _names(_plan(path, doubtful_identifiers=AS_STORED))
    assert names == [stored or str(value), "other"]
    plan = _plan(path, doubtful_identifiers=PASS_OVER)
    assert _names(plan) == ["other"]
    assert "1 rows without a patient are skipped: 2" in plan.notes


def test_an_error_of_a_formula_names_nobody(tmp_path: Path) -> None:
    book = _workbook(tmp_path / "t.xlsx", [("#REF!", ""), ("#REF!", ""), ("other", "")])
    text = _text_table(tmp_path, "#REF!", "#REF!", "other")
    for path, cell in ((book, "A2"), (text, "row 2")):
        (question,) = _plan(path).open
        assert f"2 identifiers in 'patient_id' are lost: {cell} is the error #REF!" in question.text
        assert _names(_plan(path, lost_identifiers=PASS_OVER)) == ["other"]


@pytest.mark.parametrize("word", ["NA", "nan", "None", "<NA>", "null", "n/a", "#N/A"])
def test_a_word_that_may_name_nobody_is_asked_and_merges_nobody(tmp_path: Path, word: str) -> None:
    path = _text_table(tmp_path, word, "p1", word)
    plan = _plan(path)
    (question,) = (q for q in plan.open if q.key == "patient_id: NA")
    assert question.counts == {word: 2}
    plan = add_answers(plan, {"patient_id: NA": NOBODY})
    assert "2 rows without a patient are skipped: 2, 4" in plan.notes
    if "/" in word:
        assert question.options == (NOBODY,)
    else:
        assert _names(_plan(_text_table(tmp_path, word, "p1"), NA=NAME)) == [word, "p1"]


def test_a_slide_of_no_name_is_no_slide(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient_id,slide_id,ldh\np1,nan,1\np2,nan,2\np3,s3,3\n")
    plan = plan_import(open_table(path), {"slide_id: NA": NOBODY})
    assert [[s.slide for s in p.slides] for p in plan.patients()] == [[], [], ["s3"]]


def test_leading_zeros_of_a_text_file_stay_and_lookalikes_are_said(tmp_path: Path) -> None:
    names = ("007", "7", "P 1", "P\u00a01", "P\u20111", "P-1", "a", "A", "100", "10")
    plan = _plan(_text_table(tmp_path, *names))
    assert _names(plan) == list(names)
    taken = [note for note in plan.notes if note.endswith("are read as different patients")]
    assert [note.split("'")[1::2] for note in taken] == [
        ["007", "7"],
        ["P 1", "P\\xa01"],
        ["P\u20111", "P-1"],
        ["a", "A"],
    ]


@pytest.mark.parametrize("name", ["1.23457E+11", "1e5", "1,5E+10", "2-Feb", "Mar-02"])
def test_what_a_spreadsheet_made_of_an_identifier_is_asked(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"patient_id\tldh\n{name}\t1\nother\t2\n")
    (question,) = _plan(path).open
    assert f"row 2 is {name}, possibly" in question.text
    assert _names(_plan(path, doubtful_identifiers=AS_STORED)) == [name, "other"]


@pytest.mark.parametrize("name", ["TCGA-A1-A0SK", "12-345", "3E", "E5", "B-1e5", "sep", "1-2"])
def test_identifiers_of_letters_and_digits_are_not_asked(tmp_path: Path, name: str) -> None:
    assert _plan(_text_table(tmp_path, name, "other")).open == ()


def test_decimals_that_came_with_gaps_are_asked(tmp_path: Path) -> None:
    path = _text_table(tmp_path, "1001.0", "1002.0", "x1.0")
    (question,) = _plan(path).open
    assert question.counts == {"1001.0": 1, "1002.0": 1}
    assert _names(_plan(path, decimals=WITHOUT_DECIMALS)) == ["1001", "1002", "x1.0"]
    assert _names(_plan(path, decimals=AS_STORED)) == ["1001.0", "1002.0", "x1.0"]


@pytest.mark.parametrize(
    ("values", "kind", "lost"),
    [
        ([1001.0, 1002.0], pyarrow.float64(), 0),
        ([12345678901234560.0, 12345678901234562.0], pyarrow.float64(), 2),
        ([12345678.0, 1.0], pyarrow.float32(), 1),
        ([12345678901234567, 12345678901234568], pyarrow.int64(), 0),
    ],
)
def test_numbers_of_parquet_keep_their_digits_or_are_asked(
    tmp_path: Path, values: list[float], kind: pyarrow.DataType, lost: int
) -> None:
    columns = {"patient_id": pyarrow.array(values, kind), "ldh": [1, 2]}
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    plan = _plan(path)
    if lost:
        (question,) = plan.open
        assert question.text.startswith(f"{lost} identifiers in 'patient_id' are lost: row ")
    else:
        assert _names(plan) == [str(int(value)) for value in values]


@pytest.mark.parametrize("row", ["nan,s1,1", "p1,None,1"])
def test_a_manifest_merges_nobody_either(tmp_path: Path, row: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"patient_id,slide_id,label\n{row}\n")
    with pytest.raises(RecordError, match="may name nobody"):
        read_manifest(path)
