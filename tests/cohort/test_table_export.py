"""Tables out: what is written comes back as the same, and nothing in it runs."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import openpyxl
import pyarrow.parquet
import pytest
from table_plans import plan_import

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.manifest import Manifest, Patient, SlideRow, Split
from napari_wsimil.cohort.table_export import write_cohort_table
from napari_wsimil.cohort.table_formats import open_table

SCHEMA = ClinicalSchema(
    name="s",
    fields=(
        Field(name="ldh", kind=Kind.NUMBER, group="blood", unit="U/L"),
        Field(name="crp", kind=Kind.NUMBER, group="blood"),
        Field(name="note", kind=Kind.CATEGORY, group="g", values=("=1+1", "-x", "plain", "ä, b")),
        Field(name="stage", kind=Kind.ORDINAL, group="g", values=("I", "II")),
        Field(name="fever", kind=Kind.BOOLEAN, group="g"),
        Field(name="seen", kind=Kind.DATE, group="g"),
    ),
)


def _record(*values: object) -> Record:
    return Record(dict(zip((f.name for f in SCHEMA.fields), values, strict=True)))


COHORT = Manifest(
    Path("study"),
    (
        Patient(
            "p1",
            (SlideRow("s1", Path("/secret/name.svs"), mpp=0.25), SlideRow("s2")),
            "a",
            Split.TRAIN,
            12.0,
            True,
            _record(-210.5, 1e-7, "=1+1", "II", True, date(2011, 5, 27)),
        ),
        Patient("p2", (), "b", Split.TEST, 30.0, False, _record(*[Absent.UNKNOWN] * 6)),
        Patient("p3", (SlideRow("s3"),), None, None, None, None, _record(*[Absent.MISSING] * 6)),
        Patient("p4", (), "a", record=_record(*[Absent.NOT_APPLICABLE] * 6)),
        Patient("p5", (), "b", record=_record(3.0, 0.0, "ä, b", "I", False, date(1999, 1, 2))),
    ),
    SCHEMA,
)

ANSWERS = {"event: event": "1"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "parquet"])
def test_what_is_written_comes_back_as_the_same(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    write_cohort_table(COHORT, path)
    found = plan_import(open_table(path), ANSWERS, schema=SCHEMA).patients()
    for one, other in zip(COHORT.patients, found, strict=True):
        assert other.record == one.record
        assert (other.name, other.label, other.split) == (one.name, one.label, one.split)
        assert (other.time, other.event) == (one.time, one.event)
        assert [(s.slide, s.mpp) for s in other.slides] == [(s.slide, s.mpp) for s in one.slides]


def test_cbioportal_gets_its_rows_and_gives_the_same_back(tmp_path: Path) -> None:
    path = tmp_path / "data_clinical_patient.txt"
    write_cohort_table(COHORT, path, time_unit="years", cbioportal=True)
    lines = path.read_text().splitlines()
    assert all(line.startswith("#") for line in lines[:4])
    assert lines[2].split("\t")[:3] == ["#STRING", "STRING", "NUMBER"]
    assert lines[4].startswith("PATIENT_ID\tLABEL\tLDH\t")
    assert "0:CENSORED\t360" in lines[6]
    plan = plan_import(open_table(path), {"OUTCOME_STATUS: event": "1:EVENT"}, schema=SCHEMA)
    found = plan.patients()
    for one, other in zip(COHORT.patients, found, strict=True):
        assert {n: other.record[n] for n in one.record.values} == dict(one.record.values)
        assert (other.name, other.label, other.event) == (one.name, one.label, one.event)
    assert found[0].time == 144.0


def test_cbioportal_needs_the_unit_of_times(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cBioPortal's OUTCOME_MONTHS are months"):
        write_cohort_table(COHORT, tmp_path / "t.txt", cbioportal=True)
    assert not (tmp_path / "t.txt").exists()


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_nothing_in_a_text_file_runs(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    write_cohort_table(COHORT, path)
    with path.open(newline="") as file:
        cells = [c for row in csv.reader(file, delimiter=",\t"[ending == "tsv"]) for c in row]
    begin = [cell for cell in cells if cell[:1] in "=+-@" and cell]
    assert begin == ["-210.5", "-210.5"]
    assert "'=1+1" in cells


def test_nothing_in_a_spreadsheet_runs_and_numbers_are_numbers(tmp_path: Path) -> None:
    write_cohort_table(COHORT, tmp_path / "t.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").active
    kinds = {cell.data_type for row in sheet.iter_rows() for cell in row}
    assert "f" not in kinds
    ldh = [row[7].value for row in sheet.iter_rows(min_row=2)]
    assert ldh == [-210.5, -210.5, "unknown", None, "not applicable", 3]


def test_a_parquet_column_of_numbers_and_gaps_is_of_numbers(tmp_path: Path) -> None:
    plain = Manifest(Path("x"), COHORT.patients[:1] + COHORT.patients[2:3], SCHEMA)
    write_cohort_table(plain, tmp_path / "t.parquet")
    types = {f.name: str(f.type) for f in pyarrow.parquet.read_schema(tmp_path / "t.parquet")}
    assert types["ldh"] == "double"
    assert types["note"] == "string"
    write_cohort_table(COHORT, tmp_path / "t.parquet")
    types = {f.name: str(f.type) for f in pyarrow.parquet.read_schema(tmp_path / "t.parquet")}
    assert types["ldh"] == "string"  # unknown is neither a number nor a gap


def test_no_place_of_a_file_leaves(tmp_path: Path) -> None:
    write_cohort_table(COHORT, tmp_path / "t.csv")
    assert "secret" not in (tmp_path / "t.csv").read_text()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="t.doc: a cohort is written as .csv"):
        write_cohort_table(COHORT, tmp_path / "t.doc")
