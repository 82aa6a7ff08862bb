"""A cohort as one CSV: grouped by patient, checked cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Manifest, Split
from napari_wsimil.cohort.manifest_file import read_manifest

SCHEMA = ClinicalSchema(
    name="trial",
    fields=(
        Field(name="age", kind=Kind.NUMBER, group="interview", hard=(0, 120)),
        Field(name="site", kind=Kind.CATEGORY, group="tumor", values=("left, upper", "right")),
    ),
)

COHORT = """\
patient_id,slide_id,slide_path,feature_path,mpp_override,split,label,time,event,age,site
P1,a,slides/a.svs,,0.25,train,tumor,12.5,1,61,"left, upper"
P2,c,,features/c.h5,,test,normal,30,0,unknown,not applicable
P1,b,slides/b.svs,,,train,tumor,12.5,1,61,"left, upper"
P3,d,/far/d.svs,,,val,,,,,
"""


def read(tmp_path: Path, text: str, schema: ClinicalSchema | None = None) -> Manifest:
    path = tmp_path / "cohort.csv"
    path.write_text(text, encoding="utf-8")
    return read_manifest(path, schema)


def test_slides_are_grouped_by_patient_in_the_order_of_the_file(tmp_path: Path) -> None:
    manifest = read(tmp_path, COHORT)
    slides = [(p.name, [slide.slide for slide in p.slides]) for p in manifest.patients]
    assert slides == [("P1", ["a", "b"]), ("P2", ["c"]), ("P3", ["d"])]
    assert manifest.classes == ("normal", "tumor")
    assert [patient.name for patient in manifest.part(Split.VALIDATION)] == ["P3"]


def test_cells_become_typed(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, COHORT, SCHEMA).patients
    assert (first.slides[0].mpp, first.slides[1].mpp) == (0.25, None)
    assert (first.time, first.event, second.event, third.event) == (12.5, True, False, None)
    assert (first.label, third.label) == ("tumor", None)
    assert first.record is not None
    assert first.record["site"] == "left, upper"
    assert second.record is not None
    assert second.record["age"] is Absent.UNKNOWN
    assert second.record["site"] is Absent.NOT_APPLICABLE
    assert third.record is not None
    assert third.record["age"] is Absent.MISSING


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, COHORT).patients
    assert first.slides[0].slide_path == tmp_path / "slides" / "a.svs"
    assert second.slides[0].feature_path == tmp_path / "features" / "c.h5"
    assert third.slides[0].slide_path == Path("/far/d.svs")


def test_without_a_schema_clinical_columns_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, COHORT.replace(",61,", ",xx,")).patients[0].record is None


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("train,tumor,12.5,1,61", "train,tumor,12.5,2,61", ["row 2", "'event'", "'2'"]),
        ("train,tumor,12.5,1,61", "train,tumor,-1,1,61", ["row 2", "'time'", "'-1'"]),
        ("train,tumor,12.5,1,61", "train,tumor,inf,1,61", ["row 2", "'time'", "'inf'"]),
        ("train,tumor,12.5,1,61", "train,tumor,12.5,,61", ["row 2", "'time'", "needs the other"]),
        ("train,tumor,12.5,1,61", "train,tumor,12.5,1,161", ["row 2", "'age'", "'161'"]),
        ("0.25", "250", ["row 2", "'mpp_override'", "'250'"]),
        ("0.25", "fine", ["row 2", "'mpp_override'", "'fine'"]),
        ("test,normal", "tst,normal", ["row 3", "'split'", "'tst'"]),
        ("P1,b,slides/b.svs,,,train,tumor", "P1,b,,,,train,normal", ["row 4", "'label'", "'P1'"]),
        ("P1,b,slides/b.svs,,,train", "P1,b,,,,test", ["row 4", "'split'", "'P1'"]),
        ("P1,b,", "P1,a,", ["row 4", "'slide_id'", "'a'", "row 2"]),
        ("P2,c,", ",c,", ["row 3", "'patient_id'"]),
        ("P3,d,", "P3,,", ["row 5", "'slide_id'"]),
        ("P3,d,", "P3,d,extra,", ["row 5", "12 cells under 11 columns"]),
        ("patient_id,", "who,", ["no column 'patient_id'", "who"]),
        ("split,label", "label,label", ["two columns are named 'label'"]),
    ],
)
def test_a_wrong_cell_is_refused_by_row_column_and_value(
    tmp_path: Path, old: str, new: str, parts: list[str]
) -> None:
    with pytest.raises(RecordError) as caught:
        read(tmp_path, COHORT.replace(old, new, 1), SCHEMA)
    for part in ["cohort.csv", *parts]:
        assert part in str(caught.value)


def test_patients_whose_records_disagree_are_refused(tmp_path: Path) -> None:
    wrong = COHORT.replace("b.svs,,,train,tumor,12.5,1,61", "b.svs,,,train,tumor,12.5,1,62")
    with pytest.raises(RecordError, match="row 4, column 'age': '62' differs from 61"):
        read(tmp_path, wrong, SCHEMA)


def test_a_label_cannot_be_a_clinical_field(tmp_path: Path) -> None:
    leak = ClinicalSchema(
        name="leak",
        fields=(Field(name="outcome", kind=Kind.BOOLEAN, group="g", columns=("label",)),),
    )
    with pytest.raises(RecordError, match="'outcome': 'label' is the manifest's own"):
        read(tmp_path, COHORT, leak)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00P", b'a,"b\n'])
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cohort.csv"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"cohort\.csv"):
        read_manifest(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_bytes(b"\xef\xbb\xbf" + COHORT.replace("\n", "\r\n").encode())
    assert [patient.name for patient in read_manifest(path).patients] == ["P1", "P2", "P3"]


def test_other_tools_names_of_the_columns_are_known(tmp_path: Path) -> None:
    clam = read(tmp_path, "case_id,slide_id,label\nc1,s1,tumor\nc1,s2,tumor\n")
    stamp = read(tmp_path, "PATIENT,FILENAME,label\nc1,s1,tumor\nc1,s2,tumor\n")
    assert clam.patients == stamp.patients
    assert [slide.slide for slide in clam.patients[0].slides] == ["s1", "s2"]


def test_our_own_name_of_a_column_wins(tmp_path: Path) -> None:
    manifest = read(tmp_path, "case_id,patient_id,slide_id\nx,P1,s\n")
    assert manifest.patients[0].name == "P1"


def test_a_real_label_list_is_read(data: Path) -> None:
    manifest = read_manifest(data / "clinical" / "clam_dataset.csv")
    assert len(manifest.patients) == 198
    assert manifest.classes == ("Yes",)
    assert manifest.patients[0].slides[0].slide == "TCGA-A1-A0SK-01Z-00-DX1"


def test_a_real_table_with_slides_named_twice_is_refused(data: Path) -> None:
    with pytest.raises(RecordError, match="row 21, column 'slide_id': 'TCGA-A7-A0CE"):
        read_manifest(data / "clinical" / "final_clean_merged_dataset.csv")
