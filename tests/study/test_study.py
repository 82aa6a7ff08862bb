"""A study: what goes in comes out, by whatever way and wherever the folder is."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from studies import SCHEMA, beside, first_patient, record, record_history, small_study

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.study.create_study import Study, Unit, create_study, open_study, study_of_folder
from napari_wsimil.study.file_links import Link
from napari_wsimil.study.records import Changed


@pytest.fixture
def study(tmp_path: Path) -> Study:
    with small_study(tmp_path / "study") as opened:
        yield opened


def reopened(study: Study) -> Study:
    study.close()
    return open_study(study.folder, who=study.ledger.who)


def test_what_goes_in_comes_out_with_all_kinds_of_absence_and_dates(study: Study) -> None:
    with reopened(study) as again:
        assert again.patient("P1") == first_patient(study.folder)
        assert [patient.name for patient in again.manifest().patients] == ["P1", "P2"]
        assert again.patient("P2").record == record(ldh=180.0)
        assert (again.name, again.unit, again.schema) == ("trial", Unit.PATIENT, SCHEMA)
        assert again.identity == study.identity


def test_the_unit_of_prediction_is_kept(tmp_path: Path) -> None:
    create_study(tmp_path, SCHEMA, unit=Unit.SLIDE).close()
    with open_study(tmp_path) as study:
        assert (study.unit, study.name) == (Unit.SLIDE, tmp_path.name)


def test_a_study_is_not_made_over_another(study: Study) -> None:
    with pytest.raises(RecordError, match="is a study already"):
        create_study(study.folder, SCHEMA)


def test_the_whole_folder_moves(study: Study, tmp_path: Path) -> None:
    study.close()
    shutil.move(study.folder, tmp_path / "far" / "away")
    with open_study(tmp_path / "far" / "away") as moved:
        (slide,) = moved.patient("P1").slides
        assert slide.feature_path == moved.folder / "features" / "a.h5"
        assert slide.slide_path == tmp_path / "slides" / "a.svs"


def test_slides_outside_move_with_their_root(study: Study, tmp_path: Path) -> None:
    assert study.roots == {"slides": tmp_path / "slides"}
    study.set_root("slides", tmp_path / "disk", "a new disk")
    assert study.patient("P1").slides[0].slide_path == tmp_path / "disk" / "a.svs"
    with pytest.raises(RecordError, match="no root 'maps', only slides"):
        study.set_root("maps", tmp_path, "")


def test_slides_of_far_apart_folders_get_roots_of_their_own(study: Study) -> None:
    paths = [Path("/one/x/a.svs"), Path("/one/y/b.svs"), Path("/two/c.svs")]
    rows = [SlideRow(f"s{number}", path) for number, path in enumerate(paths)]
    study.add([Patient("P9", tuple(rows))], "more")
    assert {n: str(p) for n, p in study.roots.items() if n != "slides"} == {
        "slides-2": "/one",
        "slides-3": "/two",
    }
    assert [slide.slide_path for slide in study.patient("P9").slides] == paths


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "features/../../x", "."])
def test_a_path_that_climbs_out_is_refused(study: Study, path: str) -> None:
    study.close()
    with sqlite3.connect(study.folder / "study.db") as file:
        file.execute("UPDATE features SET path = ?", (path,))
    file.close()
    with (
        open_study(study.folder) as again,
        pytest.raises(RecordError, match="outside of its"),
    ):
        again.manifest()


def test_a_path_that_climbs_out_of_a_root_outside_is_refused(study: Study) -> None:
    study.close()
    with sqlite3.connect(study.folder / "study.db") as file:
        file.execute("UPDATE slides SET path = '../a.svs' WHERE name = 'a'")
    file.close()
    with (
        open_study(study.folder) as again,
        pytest.raises(RecordError, match="outside of its"),
    ):
        again.patient("P1")


def test_a_link_in_the_study_that_leads_out_is_refused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (study.folder / "features" / "a.h5").symlink_to(tmp_path / "secret")
    with pytest.raises(RecordError, match="outside of its"):
        study.patient("P1")


def test_identical_is_passed_and_conflicting_listed_never_overwritten(study: Study) -> None:
    first = first_patient(study.folder)
    other = replace(first, label="normal")
    entries = len(study.ledger.entries())
    added = study.add([first, other], "again")
    assert (added.same, added.new, added.completed) == (("P1",), (), ())
    assert added.conflicts == ("P1: label is tumor in the study, normal here",)
    assert study.patient("P1") == first
    assert len(study.ledger.entries()) == entries


def test_a_conflict_leaves_all_of_a_patient_alone(study: Study) -> None:
    given = Patient("P2", (SlideRow("z"),), label="tumor", record=record(ldh=1.0, fever=True))
    (said,) = study.add([given], "again").conflicts
    assert "ldh is 180 in the study, 1 here" in said
    assert study.patient("P2").label is None


def test_who_is_known_in_part_is_completed(study: Study, tmp_path: Path) -> None:
    slide = SlideRow("b", tmp_path / "slides" / "b.svs")
    given = Patient("P2", (slide, SlideRow("d")), "tumor", record=record(fever=True))
    assert study.add([given], "more").completed == ("P2",)
    found = study.patient("P2")
    assert [s.slide for s in found.slides] == ["b", "c", "d"]
    assert (found.slides[0], found.label) == (slide, "tumor")
    assert found.record == record(ldh=180.0, fever=True)
    changed = {(e.field, e.old, e.new) for e in record_history(study, "P2")[1:]}
    assert {("fever", "", "yes"), ("label", "", "tumor")} <= changed


def test_two_patients_of_one_identifier_in_one_import(study: Study) -> None:
    pair = [Patient("P3", (), record=record(ldh=1.0)), Patient("P3", (), record=record(ldh=2.0))]
    added = study.add(pair, "import")
    assert added.new == ("P3",)
    assert len(added.conflicts) == 1
    assert study.patient("P3").record == record(ldh=1.0)


def test_a_slide_belongs_to_one_patient(study: Study) -> None:
    added = study.add([Patient("P4", (SlideRow("a"),))], "import")
    assert added.conflicts == ("P4: slide a already belongs to P1",)
    assert len(study.manifest().patients) == 2


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_a_name_that_names_nobody_is_refused_and_nothing_taken_in(study: Study, name: str) -> None:
    with pytest.raises(RecordError, match="need 1 to 200 printable characters"):
        study.add([Patient("P5", ()), Patient(name, (SlideRow("q"),))], "import")
    assert len(study.manifest().patients) == 2


def test_a_record_of_another_schema_is_refused(study: Study) -> None:
    with pytest.raises(RecordError, match="no field 'age' in schema trial"):
        study.add([Patient("P5", (), record=Record({"age": 3.0}))], "import")


def test_correcting_undoing_and_redoing(study: Study) -> None:
    held = study.records.read("P2")
    changes = {"ldh": 210.0, "biopsy": date(2021, 1, 1), "site": Absent.MISSING}
    corrected = study.records.correct("P2", changes, "lab", version=held.version)
    second = study.records.correct("P2", {"fever": True}, "lab", version=corrected.version)
    assert second.record == record(ldh=210.0, biopsy=date(2021, 1, 1), fever=True)
    assert study.records.undo("P2").record == corrected.record
    assert study.records.undo("P2").record == held.record
    with pytest.raises(ValueError, match="nothing to undo"):
        study.records.undo("P2")
    assert study.records.redo("P2").record == corrected.record
    assert study.records.redo("P2").record == second.record
    with pytest.raises(ValueError, match="nothing to redo"):
        study.records.redo("P2")


def test_a_correction_ends_what_can_be_redone(study: Study) -> None:
    held = study.records.read("P2")
    study.records.correct("P2", {"ldh": 1.0}, "lab", version=held.version)
    held = study.records.undo("P2")
    study.records.correct("P2", {"ldh": 2.0}, "lab", version=held.version)
    with pytest.raises(ValueError, match="nothing to redo"):
        study.records.redo("P2")


def test_undo_brings_back_every_digit(study: Study) -> None:
    held = study.records.read("P1")
    study.records.correct("P1", {"ldh": 5.0}, "lab", version=held.version)
    assert study.records.undo("P1").record["ldh"] == 0.1 + 0.2


def test_a_history_says_what_was_done(study: Study) -> None:
    held = study.records.read("P2")
    study.records.correct("P2", {"ldh": 210.0, "fever": False}, "lab", version=held.version)
    study.records.undo("P2")
    said = [(e.act.value, e.field, e.old, e.new) for e in record_history(study, "P2")]
    assert said == [
        ("imported", "", "", ""),
        ("corrected", "ldh", "180", "210"),
        ("corrected", "fever", "", "no"),
        ("undone", "ldh", "210", "180"),
        ("undone", "fever", "no", ""),
    ]
    assert record_history(study, "P2")[-1].record == record(ldh=180.0).digest()


def test_what_is_so_already_changes_nothing(study: Study) -> None:
    held = study.records.read("P2")
    assert study.records.correct("P2", {"ldh": 180.0}, "lab", version=held.version) == held
    assert len(record_history(study, "P2")) == 1


@pytest.mark.parametrize(
    ("changes", "why", "said"),
    [
        ({"ldh": 99999.0}, "lab", "possible 0 to 9000"),
        ({"ldh": True}, "lab", "finite number"),
        ({"ldh": float("nan")}, "lab", "finite number"),
        ({"site": "middle"}, "lab", "one of left, right"),
        ({"age": 1.0}, "lab", "no field 'age'"),
        ({"ldh": 1.0}, " ", "Give a reason"),
    ],
)
def test_what_cannot_be_is_refused(
    study: Study, changes: dict[str, float], why: str, said: str
) -> None:
    held = study.records.read("P2")
    with pytest.raises(RecordError, match=said):
        study.records.correct("P2", changes, why, version=held.version)
    assert study.records.read("P2") == held


def test_the_second_of_two_editors_hears_of_it(study: Study) -> None:
    with open_study(study.folder, who="grace") as other:
        seen = study.records.read("P2").version
        other.records.correct("P2", {"ldh": 200.0}, "lab", version=seen)
        with pytest.raises(Changed, match="ldh corrected from 180 to 200 by grace on 20"):
            study.records.correct("P2", {"ldh": 210.0}, "lab", version=seen)
        with pytest.raises(Changed):
            study.records.undo("P2", version=seen)
        assert study.records.read("P2").record["ldh"] == 200.0


EDITOR = """
import sys
from napari_wsimil.study.records import Changed
from napari_wsimil.study.create_study import open_study
study = open_study(sys.argv[1], who=sys.argv[2], wait_s=60)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    while True:
        held = study.records.read("P2")
        try:
            ldh = held.record["ldh"] + 1
            study.records.correct("P2", {"ldh": ldh}, "count", version=held.version)
            break
        except Changed:
            continue
"""


def test_two_programs_that_count_in_one_field_lose_nothing(study: Study) -> None:
    editors = [beside(EDITOR, study.folder, who) for who in ("ada", "grace")]
    for editor in editors:
        assert editor.stdout.readline() == "ready\n"
    for editor in editors:
        editor.stdin.write("go\n")
        editor.stdin.flush()
    assert [editor.wait(120) for editor in editors] == [0, 0]
    assert study.records.read("P2").record["ldh"] == 180.0 + 2 * 25
    assert study.ledger.check() == ""


def test_a_schema_is_changed_with_an_entry_and_keeps_what_it_does_not_know(study: Study) -> None:
    fewer = ClinicalSchema(name="fewer", fields=SCHEMA.fields[1:])
    study.set_schema(fewer, "not needed")
    assert study.schema == fewer
    assert "ldh" not in study.patient("P2").record.values
    study.set_schema(SCHEMA, "needed after all")
    assert study.patient("P2").record == record(ldh=180.0)
    assert [e.act.value for e in study.ledger.entries()][-2:] == ["schema", "schema"]


def test_a_schema_that_refuses_a_record_is_refused(study: Study) -> None:
    low = Field(name="ldh", kind=Kind.NUMBER, group="blood", hard=(0, 100))
    with pytest.raises(RecordError, match="low does not fit P2's record: .*'180'"):
        study.set_schema(ClinicalSchema(name="low", fields=(low,)), "wrong")
    assert study.schema == SCHEMA


def test_a_schema_changed_elsewhere_is_seen(study: Study) -> None:
    fewer = ClinicalSchema(name="fewer", fields=SCHEMA.fields[1:])
    with open_study(study.folder) as other:
        other.set_schema(fewer, "not needed")
    assert study.schema == fewer


def test_features_are_linked_where_they_are(study: Study, tmp_path: Path) -> None:
    link = Link("b", tmp_path / "clam" / "b.h5", "resnet50", True, {"patch_size": 256})
    found = study.link([link, Link("nobody", tmp_path / "clam" / "x.h5")], "features")
    assert (found.linked, found.same, found.unknown) == (("b",), (), ("nobody",))
    assert study.links()["b"] == link
    assert study.patient("P2").slides[0].feature_path == link.path
    assert study.link([link], "again").same == ("b",)
    study.link([replace(link, encoder="uni")], "said wrongly")
    entry = study.ledger.entries("P2")[-1]
    assert (entry.act.value, entry.field) == ("linked", "features of b")
    assert "resnet50, verified" in entry.old
    assert "uni, verified" in entry.new


def test_a_folder_of_slides_is_opened_as_cases_that_take_no_names(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    for name in ("Smith.svs", "deep/Jones.tiff", ".hidden/x.svs", "notes.txt"):
        (slides / name).parent.mkdir(parents=True, exist_ok=True)
        (slides / name).touch()
    with study_of_folder(slides, tmp_path / "study") as study:
        patients = study.manifest().patients
    assert [(p.name, p.slides[0].slide) for p in patients] == [
        ("P0001", "P0001-1"),
        ("P0002", "P0002-1"),
    ]
    assert {p.slides[0].slide_path.name for p in patients} == {"Smith.svs", "Jones.tiff"}


def test_a_folder_without_slides_makes_no_study(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has no slides"):
        study_of_folder(tmp_path, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_nobody_is_named_so(study: Study) -> None:
    for ask in (study.patient, study.records.read, study.records.undo):
        with pytest.raises(RecordError, match="no patient 'P77'"):
            ask("P77")


def test_splits_are_kept(study: Study) -> None:
    assert study.manifest().part(Split.TRAIN) == (first_patient(study.folder),)
