"""Columns that pandas and CLAM write beside patients: an index, and the parts of a cohort."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
from table_plans import add_answers, plan_import

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.cohort.table_import.plan import summary_lines
from napari_wsimil.study.create_study import open_study

if TYPE_CHECKING:
    from pathlib import Path


def _file(folder: Path, *lines: str) -> Path:
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(
    ("name", "called"), [("", "no name"), ("Unnamed: 0", "the name 'Unnamed: 0'")]
)
def test_an_index_is_dropped_and_that_is_said(
    tmp_path: Path, start: int, name: str, called: str
) -> None:
    rows = (f"{start + n},p{n},{5 * n}" for n in range(3))
    plan = plan_import(open_table(_file(tmp_path, f"{name},patient_id,ldh", *rows)))
    note = f"column 1 has {called} and numbers the rows: it is dropped"
    assert plan.table.columns == ("patient_id", "ldh")
    assert plan.notes == (note,)
    assert f"note: {note}" in list(summary_lines(plan))
    assert [patient.name for patient in plan.patients()] == ["p0", "p1", "p2"]


def test_an_index_is_dropped_from_a_workbook_and_identifiers_stay_in_their_column(
    tmp_path: Path,
) -> None:
    book = openpyxl.Workbook()
    book.active.append([None, "patient_id", "ldh"])
    for number in range(3):
        book.active.append([number, 7 + number, 5.5])
        book.active.cell(row=number + 2, column=2).number_format = "000"
    book.save(tmp_path / "t.xlsx")
    plan = plan_import(open_table(tmp_path / "t.xlsx"), {"ldh: use": "field"})
    assert "column 1 has no name and numbers the rows" in plan.notes[0]
    assert [patient.name for patient in plan.patients()] == ["007", "008", "009"]


def test_an_index_is_dropped_from_parquet(tmp_path: Path) -> None:
    columns = {"patient_id": ["a", "b"], "ldh": [1.5, 2.0], "__index_level_0__": [0, 1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    assert table.columns == ("patient_id", "ldh")
    assert "column 3" in table.notes[0]


def test_an_empty_column_without_a_name_is_dropped_and_said(tmp_path: Path) -> None:
    table = open_table(_file(tmp_path, "patient_id,ldh,", "a,1,", "b,2,"))
    assert table.columns == ("patient_id", "ldh")
    assert table.notes == ("column 3 has no name and is empty: it is dropped",)


@pytest.mark.parametrize("cells", ["02", "12x", "10", "ab", "13"])
def test_another_column_without_a_name_is_refused_by_its_place(tmp_path: Path, cells: str) -> None:
    rows = (f"p{number},{cell}" for number, cell in enumerate(cells))
    place = rf"column 2 has no name, and does not number the rows \(its first value is '{cells[0]}'"
    with pytest.raises(RecordError, match=place):
        open_table(_file(tmp_path, "patient_id,", *rows))


def test_a_column_called_unnamed_with_something_else_stays(tmp_path: Path) -> None:
    table = open_table(_file(tmp_path, "Unnamed: 0,ldh", "p1,1", "p2,2"))
    assert table.columns == ("Unnamed: 0", "ldh")


def test_a_manifest_may_have_an_index(tmp_path: Path) -> None:
    path = _file(tmp_path, ",patient_id,slide_id,label", "0,p1,s1,a", "1,p2,s2,b")
    assert [patient.name for patient in read_manifest(path).patients] == ["p1", "p2"]


@pytest.mark.parametrize(
    "lines",
    [
        (",train,val,test", "0,s0,s2,s3", "1,s1,,"),
        (",train,val,test", "s0,True,False,False", "s1,False,True,False"),
        ("Unnamed: 0,train,val", "0,s0,s1"),
        ("train,validation,test", "s0,s1,s2"),
    ],
)
def test_a_split_file_is_no_table_of_patients(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(RecordError, match="looks like a split file: its columns are"):
        open_table(_file(tmp_path, *lines))


def test_a_survival_table_of_clam_is_imported_with_its_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (f"{n},p{n},p{n}.svs,{5.5 + n},{int(n % 3 > 0)},{n % 2}" for n in range(12))
    header = ",case_id,slide_id,survival_months,censorship,train"
    path, study = _file(tmp_path, header, *rows), str(tmp_path / "s")
    assert main(["study", "create", study]) == 0
    arguments = ["study", "import", study, "--table", str(path), "--keep-names"]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "column 1 has no name and numbers the rows: it is dropped" in shown
    assert (
        "split: Is 'train' the split into training, validation and test set? (0: 6, 1: 6)" in shown
    )
    assert "(0: 4, 1: 8)" in shown
    answers = ("split=train where 1, test where 0", "censorship: event=0")
    given = [word for answer in answers for word in ("--answer", answer)]
    assert main([*arguments, *given]) == 0
    capsys.readouterr()
    assert main(["study", "show", study, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["splits"] == {"test": 6, "train": 6}
    assert (facts["with_outcome"], facts["events"]) == (12, 4)
    with open_study(study) as opened:
        assert [patient.split for patient in opened.manifest().part(Split.TRAIN)] == ["train"] * 6
        assert opened.patient("p1").split is Split.TRAIN
        assert "train" not in opened.schema.by_name


def test_a_column_of_train_is_a_field_where_it_parts_nothing(tmp_path: Path) -> None:
    path = _file(tmp_path, "patient_id,train", *(f"p{n},{n % 2}" for n in range(4)))
    plan = plan_import(open_table(path), {"split": "none"})
    assert [patient.split for patient in plan.patients()] == [None] * 4
    assert [field.name for field in plan.schema.fields] == ["train"]
    other = add_answers(plan, {"split": "train where 1, validation where 0"})
    assert [patient.split for patient in other.patients()] == ["validation", "train"] * 2


def test_words_for_the_parts_of_a_cohort_are_offered_as_a_split(tmp_path: Path) -> None:
    rows = ("p1,training", "p2,Test", "p3,dev", "p4,")
    plan = plan_import(open_table(_file(tmp_path, "patient_id,Set", *rows)))
    assert [question.key for question in plan.open] == ["split"]
    plan = add_answers(plan, {"split": "as it says"})
    assert [patient.split for patient in plan.patients()] == ["train", "test", "validation", None]


def test_rows_of_a_patient_in_two_parts_disagree(tmp_path: Path) -> None:
    path = _file(tmp_path, "patient_id,slide_id,train", "p1,a,1", "p1,b,0", "p2,c,0")
    plan = plan_import(open_table(path), {"split": "train where 1, test where 0"})
    assert [(c.patient, c.column) for c in plan.merged.conflicts] == [("p1", "train")]
    assert [question.key for question in plan.open] == ["conflicts"]
