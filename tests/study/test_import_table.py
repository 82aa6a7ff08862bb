"""Import into a study and export from one, as the window and the command line drive them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from studies import beside
from table_plans import plan_for

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, schema_text
from napari_wsimil.cohort.table_formats import open_table
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import Study, create_study, open_study, study_of_folder
from napari_wsimil.study.import_table import export_table, write_plan
from napari_wsimil.study.pseudonyms import read_key

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = ClinicalSchema(name="none", fields=())


def _table(folder: Path, *lines: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _import(study: Study, path: Path, **answers: str):
    work = write_plan(study, plan_for(study, path, answers), "first import")
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def test_a_table_brings_fields_and_patients_and_an_entry_with_its_hash(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY, who="me") as study:
        added = _import(
            study, _table(tmp_path, "patient_id,ldh,sex", "p1,5,f", "p2,NA,m"), NA="unknown"
        )
        assert added.new == ("p1", "p2")
        assert [field.name for field in study.schema.fields] == ["ldh", "sex"]
        assert study.patient("p2").record["ldh"] is Absent.UNKNOWN
        entry = study.ledger.entries(newest=1)[0]
        assert (entry.act, len(entry.file), entry.why) == (Act.IMPORTED, 64, "first import")
        assert study.ledger.check() == ""
        assert "table.csv" not in schema_text(study.schema)


def test_an_open_question_leaves_the_study_as_it_was(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        entries = study.ledger.entries()
        with pytest.raises(RecordError, match="answer 'NA' first"):
            _import(study, _table(tmp_path, "patient_id,ldh", "p1,5", "p2,NA"))
        assert study.schema == EMPTY
        assert study.ledger.entries() == entries


def test_a_second_table_completes_and_never_overwrites(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        _import(study, _table(tmp_path, "patient_id,ldh", "p1,5", "p2,6"))
        added = _import(study, _table(tmp_path, "patient_id,ldh,crp", "p1,5,1", "p2,7,2", "p3,8,3"))
        assert (added.new, added.completed) == (("p3",), ("p1",))
        assert added.conflicts == ("p2: ldh is 6 in the study, 7 here",)
        assert study.patient("p2").record["ldh"] == 6.0
        assert study.patient("p1").record["crp"] == 1.0


def test_a_table_finds_the_cases_of_a_folder_by_their_files(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("TCGA-A1-A0SK-01Z-00-DX1.svs", "TCGA-A1-A0SP-01Z-00-DX1.svs"):
        (slides / name).touch()
    with study_of_folder(slides, tmp_path / "s") as study:
        path = _table(tmp_path, "patient_id,age", "tcga-a1-a0sk,50", "TCGA-A1-A0SP,60")
        added = _import(study, path)
        assert added.completed == ("P0001", "P0002")
        assert [p.record["age"] for p in study.manifest().patients] == [50.0, 60.0]


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "parquet"])
def test_what_a_study_exports_it_takes_in_as_the_same(tmp_path: Path, ending: str) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        lines = ("patient_id,slide_id,ldh,sex,stage", "p1,a,5.25,f,II", "p2,,unknown,m,")
        _import(study, _table(tmp_path, *lines))
        export_table(study, tmp_path / f"t.{ending}")
        plan = plan_for(study, tmp_path / f"t.{ending}")
        assert study.add(plan.patients(), "again").same == ("p1", "p2")
        assert plan.schema == study.schema


def test_what_left_is_in_the_ledger_with_its_hash_and_place(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        _import(study, _table(tmp_path, "patient_id,ldh", "p1,5", "p2,6"))
        export_table(study, tmp_path / "t.csv")
        entry = study.ledger.entries(newest=1)[0]
        assert (entry.act, entry.destination) == (Act.EXPORTED, str(tmp_path / "t.csv"))
        assert len(entry.file) == 64
        assert entry.identifying is False
        assert open_table(tmp_path / "t.csv").columns[-1] == "ldh"


def test_nothing_leaves_that_the_ledger_cannot_keep(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        _import(study, _table(tmp_path, "patient_id,ldh", "p1,5"))
        with pytest.raises(RecordError, match="written as .csv"):
            export_table(study, tmp_path / "t.doc")
        assert study.ledger.entries(newest=1)[0].act is Act.IMPORTED
    assert not list(tmp_path.glob("*.doc"))


def test_real_tables_come_into_a_study(data: Path, tmp_path: Path) -> None:
    answers = {
        "overall survival status: event": "1:DECEASED",
        "disease free status: event": "no event",
        "conflicts": "leave those columns out",
    }
    with create_study(tmp_path / "s", EMPTY) as study:
        path = data / "clinical" / "final_clean_merged_dataset.csv"
        added = _import(study, path, **answers)
        assert len(added.new) == 141
        assert sum(bool(p.event) for p in study.manifest().patients) == 18
        stage = study.schema.by_name["american joint committee on cancer tumor stage code"]
        assert stage.kind is Kind.ORDINAL


def test_the_same_table_again_changes_nothing(data: Path, tmp_path: Path) -> None:
    answers = {"vital_status: event": "Dead", "conflicts": "leave those columns out"}
    path = data / "clinical" / "gdc_export_example.csv"
    with create_study(tmp_path / "s", EMPTY) as study:
        _import(study, path, **answers)
        schema = study.schema
        ignore = {"treatment_type: use": "nothing", "treatment_or_therapy: use": "nothing"}
        again = _import(study, path, **{"vital_status: event": "Dead"}, **ignore)
        assert len(again.same) == 14
        assert study.schema == schema


def test_names_stay_outside_and_are_known_again_by_the_key(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        for number, lines in enumerate((("Anna,5,", "Bert,6,x"), ("Bert,6,", "Carl,7,y"))):
            path = _table(tmp_path, "patient_id,ldh,slide_id", *lines)
            key = read_key(tmp_path / "key.json", study.folder)
            work = write_plan(study, plan_for(study, path, key=key), "table", key)
            added = None
            while added is None:
                try:
                    next(work)
                except StopIteration as stop:
                    added = stop.value
            assert added.new == (("P0001", "P0002"), ("P0003",))[number]
        assert [p.name for p in study.manifest().patients] == ["P0001", "P0002", "P0003"]
        assert study.patient("P0002").slides[0].slide == "P0002-1"
    kept = b"".join(file.read_bytes() for file in (tmp_path / "s").rglob("*") if file.is_file())
    assert not [name for name in (b"Anna", b"Bert", b"Carl") if name in kept]
    key = read_key(tmp_path / "key.json", tmp_path / "s")
    assert dict(key.patients) == {"Anna": "P0001", "Bert": "P0002", "Carl": "P0003"}


KILLED = """
import os, signal, sys
from napari_wsimil.study import open_study as opened
from napari_wsimil.study import open_study as module
from napari_wsimil.cohort.table_import.stages import apply_answers
from napari_wsimil.study.import_table import infer_table, write_plan
from napari_wsimil.study.create_study import open_study
stage = sys.argv[3]
run, append = module.Addition.run, module.append
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def running(self, patients):
    die() if stage == "schema" else None
    return run(self, patients)
def appending(session, entries):
    written = append(session, entries)
    session.connection().exec_driver_sql("PRAGMA cache_spill = 1")
    die() if stage == "patients" and entries[0].file else None
    return written
module.Addition.run, module.append = running, appending
study = open_study(sys.argv[1])
list(write_plan(study, apply_answers(infer_table(study, sys.argv[2])), "killed"))
"""


@pytest.mark.parametrize("stage", ["schema", "patients"])
def test_an_import_that_is_killed_leaves_neither_fields_nor_patients(
    tmp_path: Path, stage: str
) -> None:
    path = _table(tmp_path, "patient_id,ldh", "p1,5", "p2,6")
    with create_study(tmp_path / "s", EMPTY) as study:
        before = study.ledger.entries()
    child = beside(KILLED, tmp_path / "s", path, stage)
    assert child.wait(60) == -signal.SIGKILL
    with open_study(tmp_path / "s") as study:
        assert study.schema == EMPTY
        assert study.manifest().patients == ()
        assert (study.ledger.entries(), study.ledger.check()) == (before, "")
        assert _import(study, path).new == ("p1", "p2")
        assert [e.act for e in study.ledger.entries()[1:]] == [Act.SCHEMA, *[Act.IMPORTED] * 3]


def test_an_import_with_a_name_that_cannot_be_leaves_the_fields(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", EMPTY) as study:
        with pytest.raises(RecordError, match="names of patients and slides need"):
            _import(study, _table(tmp_path, "patient_id,ldh", "p1,5", f"{'p' * 201},6"))
        assert study.schema == EMPTY
