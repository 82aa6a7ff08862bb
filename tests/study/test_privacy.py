"""Privacy: pseudonyms, copies that name nobody, patients forgotten, and no network."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from cohorts import CLASSES, SPLITS, make_bag
from studies import SCHEMA, as_wal, beside, record
from table_plans import plan_for

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Kind
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.features.importers.open import open_bag
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import finish
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import Study, StudyError, create_study, open_study
from napari_wsimil.study.import_table import write_plan
from napari_wsimil.study.pseudonyms import Key, default_key, read_key
from napari_wsimil.workflows.erase_patient import forget
from napari_wsimil.workflows.share import share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., tuple[int, Any, str]]

#: What stands for a person's data in these tests, to be looked for byte by byte.
NAMES = ("Erika Mustermann", "Doe-1987", "SECRET")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps keys in a folder of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, what JSON it printed, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return run


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """Two patients under the names of the outside, with slides, features, dates, corrections."""
    folder, scans = tmp_path / "study", tmp_path / "scans"
    scans.mkdir()
    (scans / "Erika Mustermann.svs").touch()
    with create_study(folder, SCHEMA, name="SECRET study", who="Dr SECRET") as study:
        own = folder / "features" / "Doe-1987.h5"
        save_bag(own, replace(make_bag(1), slide="SECRET fingerprint"), "Erika Mustermann")
        with h5py.File(own, "r+") as file:
            file["coords"].attrs["savetodir"] = "/home/SECRET"
            file.create_dataset("SECRET", data=[1, 2])
        slide = SlideRow("Doe-1987", scans / "Erika Mustermann.svs", own, 0.25)
        known = record(ldh=4321.5, biopsy=date(1987, 5, 17))
        first = Patient("Erika Mustermann", (slide,), "tumor", Split.TRAIN, 3.0, True, known)
        other = Patient("P2", (SlideRow("b"),), "normal", record=record(ldh=180.0))
        study.add([first, other], "from SECRET.csv")
        held = study.records.read("Erika Mustermann")
        study.records.correct("Erika Mustermann", {"ldh": 1234.5}, "SECRET", version=held.version)
        yield study


def contents(folder: Path) -> bytes:
    """Return the bytes and the paths of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\0".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)


def names_in(folder: Path) -> list[str]:
    found = contents(folder)
    return [name for name in NAMES if name.encode() in found]


def test_identifiers_become_pseudonyms_and_the_key_stays_outside(tmp_path: Path) -> None:
    given = [
        Patient("Erika Mustermann", (SlideRow("Doe-1987"),)),
        Patient("Max", (SlideRow("m1"), SlideRow("m2"))),
    ]
    with create_study(tmp_path / "study", SCHEMA) as study:
        key = read_key(default_key(study.identity), study.folder)
        patients, key = key.disguised(given, study.manifest())
        key.save()
        study.add(patients, "import")
        again, same = read_key(key.path, study.folder).disguised(given[::-1], study.manifest())
    assert [(p.name, [s.slide for s in p.slides]) for p in patients] == [
        ("P0001", ["P0001-1"]),
        ("P0002", ["P0002-1", "P0002-2"]),
    ]
    assert again == patients[::-1]
    assert same == key
    assert key.identifiers()["P0001"] == "Erika Mustermann"
    assert names_in(study.folder) == []
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert key.path.is_relative_to(tmp_path / "data")


def test_new_pseudonyms_pass_over_those_in_use(tmp_path: Path) -> None:
    with create_study(tmp_path / "study", SCHEMA) as study:
        study.add([Patient("P0001", (SlideRow("P0002-1"),))], "by hand")
        key = Key(tmp_path / "key.json", {"Max": "P0002"})
        (new,), key = key.disguised([Patient("Eva", (SlideRow("e"),))], study.manifest())
    assert (new.name, new.slides[0].slide) == ("P0003", "P0003-1")


def test_nobody_gets_the_pseudonym_of_one_who_was_forgotten(tmp_path: Path) -> None:
    key = Key(tmp_path / "key.json")
    with create_study(tmp_path / "study", SCHEMA) as study:
        for name in ("Eva", "Max"):
            (tmp_path / f"{name}.csv").write_text(f"patient_id,ldh\n{name},210\n")
            plan = plan_for(study, tmp_path / f"{name}.csv", key=key)
            for _ in write_plan(study, plan, "table", key):
                pass
            key = read_key(key.path, study.folder).without(["P0001"])
            if name == "Eva":
                study.forget("P0001", "consent withdrawn")
        assert key.patients == {"Max": "P0002"}
        assert [patient.name for patient in study.manifest().patients] == ["P0002"]


def test_who_has_a_slide_that_is_there_is_known_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "Doe-1987.svs"
    with create_study(tmp_path / "study", SCHEMA) as study:
        study.add([Patient("P0001", (SlideRow("P0001-1", file),))], "opened as cases")
        given = Patient("Erika Mustermann", (SlideRow("Doe-1987", file),), "tumor")
        (known,), _ = Key(tmp_path / "key.json").disguised([given], study.manifest())
        assert study.add([known], "table").completed == ("P0001",)
        assert study.patient("P0001").label == "tumor"


def test_a_key_in_the_study_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="outside of the study"):
        read_key(study.folder / "features" / "key.json", study.folder)
    (tmp_path / "key.json").write_text('{"kind": "list"}')
    with pytest.raises(RecordError, match="no key of pseudonyms"):
        read_key(tmp_path / "key.json", study.folder)


def test_names_are_told_only_when_asked(run: Run, study: Study, tmp_path: Path) -> None:
    given = [Patient("Doe-1987-SECRET", (SlideRow("SECRET-slide"),))]
    patients, key = Key(tmp_path / "key.json").disguised(given, study.manifest())
    key.save()
    study.add(patients, "import")
    show = ("study", "show", study.folder, "P0001", "--key", key.path)
    assert "SECRET" not in json.dumps(run(*show)[1])
    told = run(*show, "--identifying")[1]
    assert told["identifier"] == "Doe-1987-SECRET"
    assert told["slide_identifiers"] == {"P0001-1": "SECRET-slide"}


def test_a_shared_copy_names_nobody(study: Study, tmp_path: Path) -> None:
    made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    assert names_in(study.folder) == list(NAMES)
    assert names_in(made.folder) == []
    assert b"1987" not in contents(made.folder)
    assert str(tmp_path).encode() not in contents(made.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "copy", "key.json", "scans", "study"
    ]  # fmt: skip


def test_a_shared_copy_says_the_same_of_its_patients(study: Study, tmp_path: Path) -> None:
    made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    key = read_key(made.key, made.folder)
    with open_study(made.folder) as copy:
        first = copy.patient(key.patients["Erika Mustermann"])
        second = copy.patient(key.patients["P2"])
        assert copy.schema.by_name["biopsy"].kind is Kind.NUMBER
        assert copy.schema.inputs == SCHEMA.inputs
        assert [e.act for e in copy.ledger.entries()].count(Act.CORRECTED) == 0
        assert {e.who for e in copy.ledger.entries()} == {"whoever shared it"}
        assert copy.identity != study.identity
        assert copy.roots == {}
    assert (first.label, first.split, first.time, first.event) == ("tumor", Split.TRAIN, 3.0, True)
    assert first.record == replace(record(ldh=1234.5, biopsy=0.0))
    assert second.record == record(ldh=180.0)
    (slide,) = first.slides
    assert slide.slide == key.slides["Doe-1987"]
    bag, before = open_bag(slide.feature_path), make_bag(1)
    assert np.array_equal(bag.features, before.features)
    assert np.array_equal(bag.grid.coords, before.grid.coords)
    assert bag.encoder == before.encoder


def test_dates_become_days_since_the_patients_first(tmp_path: Path) -> None:
    second = SCHEMA.fields[3].model_copy(update={"name": "visit"})
    schema = SCHEMA.model_copy(update={"fields": (*SCHEMA.fields, second)})
    days = {"biopsy": date(2020, 3, 1), "visit": date(2020, 2, 28)}
    with create_study(tmp_path / "study", schema) as study:
        known = replace(record(), values={**record().values, **days})
        study.add([Patient("A", (), record=known)], "import")
        made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    with open_study(made.folder) as copy:
        found = copy.patient("P0001").record
    assert (found["biopsy"], found["visit"]) == (2.0, 0.0)


def test_what_was_said_of_the_fields_as_a_whole_is_not_in_a_copy(tmp_path: Path) -> None:
    columns = SCHEMA.fields[0].model_copy(update={"columns": ("ldh of SECRET",)})
    said = {"description": "drafted from Doe-1987.csv", "fields": (columns, *SCHEMA.fields[1:])}
    with create_study(tmp_path / "study", SCHEMA.model_copy(update=said)) as study:
        made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
        assert names_in(study.folder) == ["Doe-1987", "SECRET"]
    assert names_in(made.folder) == []


def test_new_names_do_not_follow_the_order_of_the_old(tmp_path: Path) -> None:
    with create_study(tmp_path / "study", SCHEMA) as study:
        study.add([Patient(f"N{k:02d}", ()) for k in range(40)], "import")
        made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    names = read_key(made.key, made.folder).patients
    assert [names[old] for old in sorted(names)] != sorted(names.values())


def test_what_was_removed_is_told_and_the_study_remembers(
    run: Run, study: Study, tmp_path: Path
) -> None:
    (study.folder / "maps" / "a.png").touch()
    key = tmp_path / "key.json"
    code, told, _ = run("study", "share", study.folder, tmp_path / "copy", "--key", key)
    assert (code, told["patients"], told["features"]) == (0, 2, 1)
    said = "\n".join(told["removed"])
    for part in ("names of 2 patients and 2 slides", "dates (biopsy)", "1 slides", "savetodir",
                 "entries of the ledger", "models, maps and exports (1 files)"):  # fmt: skip
        assert part in said
    entry = study.ledger.entries()[-1]
    assert (entry.act, entry.identifying) == (Act.SHARED, False)
    assert entry.destination == str(tmp_path / "copy" / "study.db")
    assert len(entry.file) == 64


def test_a_copy_is_whole_or_not_there(study: Study, tmp_path: Path) -> None:
    study.patient("P2")
    (study.folder / "features" / "Doe-1987.h5").write_bytes(b"broken")
    with pytest.raises(ValueError, match="HDF5"):
        finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans", "study"]


@pytest.mark.parametrize("where", ["copy", "study", "key"])
def test_a_copy_is_not_made_over_or_in_what_is_there(
    study: Study, tmp_path: Path, where: str
) -> None:
    out, key = tmp_path / "copy", tmp_path / "key.json"
    if where == "copy":
        out.mkdir()
    out = study.folder / "copy" if where == "study" else out
    key = out / "key.json" if where == "key" else key
    with pytest.raises(RecordError, match="there already|in the study itself|outside"):
        finish(share(study, out, key))


def test_features_of_other_tools_are_scrubbed_with_what_was_confirmed(
    study: Study, tmp_path: Path
) -> None:
    alone, clam = tmp_path / "SECRET.h5", tmp_path / "clam.h5"
    bag = make_bag(3)
    with h5py.File(alone, "w") as file:
        file["features"] = bag.features.numpy()
        file["features"].attrs.update(encoder="uni", slide="SECRET")
    with h5py.File(clam, "w") as file:
        file["features"], file["coords"] = bag.features.numpy(), bag.grid.coords
    rows = (
        SlideRow("x", feature_path=alone),
        SlideRow("y", feature_path=clam, feature_facts="patch_size=64; encoder=conch"),
    )
    study.add([Patient("P3", rows)], "features")
    made = finish(share(study, tmp_path / "copy", tmp_path / "key.json"))
    assert names_in(made.folder) == []
    slides = read_key(made.key, made.folder).slides
    alone, clam = (open_bag(made.folder / "features" / f"{slides[n]}.h5") for n in "xy")
    assert np.array_equal(alone.features, bag.features)
    assert (alone.grid, alone.encoder) == (None, "uni")
    assert clam.grid.patch_size == 64
    assert clam.encoder == "conch (unverified)"


def test_of_a_forgotten_patient_no_byte_is_left(study: Study, tmp_path: Path) -> None:
    folder = study.folder
    for name in ("maps/Erika Mustermann.png", "maps/Doe-1987_abmil.png", "exports/Doe-1987/x.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("4321.5")
    study.ledger.note(Act.WHAT_IF, patient="Erika Mustermann", changes={"ldh": ("", "4321.5")})
    found = study.forget("Erika Mustermann", "consent withdrawn")
    assert {path.name for path in found.erased} == {
        "Erika Mustermann.png", "Doe-1987_abmil.png", "x.csv", "Doe-1987.h5"
    }  # fmt: skip
    assert found.outside == (tmp_path / "scans" / "Erika Mustermann.svs",)
    assert found.entries == 3
    assert [patient.name for patient in study.manifest().patients] == ["P2"]
    (stone,) = study.ledger.entries("Erika Mustermann")
    assert (stone.act, stone.why) == (Act.FORGOTTEN, "consent withdrawn")
    assert study.ledger.check() == ""
    left = contents(folder)  # with the study still open: its journal is looked at too
    for text in ("4321.5", "1234.5", "1987", "Doe-1987"):
        assert text.encode() not in left, text


def test_what_is_another_patients_stays(study: Study) -> None:
    rows = (SlideRow("Doe-1987-b"), SlideRow("Doe-19870"))
    study.add([Patient("P3", rows)], "more")
    names = ["Doe-1987-b.png", "Doe-1987-b-2.png", "Doe-19870.png", "P2.png", "cohort.csv"]
    for name in names:
        (study.folder / "maps" / name).touch()
    found = study.forget("Erika Mustermann", "consent withdrawn")
    assert sorted(path.name for path in (study.folder / "maps").iterdir()) == sorted(names)
    assert found.unsure == (study.folder / "maps" / "cohort.csv",)
    assert study.patient("P2").record == record(ldh=180.0)


def test_a_file_that_another_patient_has_too_is_left_and_told(tmp_path: Path) -> None:
    with create_study(tmp_path / "study", SCHEMA) as study:
        path = study.folder / "features" / "both.h5"
        path.touch()
        rows = (SlideRow(f"{name}-1", feature_path=path) for name in ("P1", "P2"))
        study.add([Patient(row.slide[:2], (row,)) for row in rows], "import")
        found = study.forget("P1", "consent withdrawn")
        assert (found.erased, found.unsure) == ((), (path,))
        assert path.exists()
        assert study.forget("P2", "consent withdrawn").erased == (path,)
    assert not path.exists()


def test_an_entry_erased_by_hand_breaks_the_chain_even_after_a_forgetting(study: Study) -> None:
    study.forget("Erika Mustermann", "consent withdrawn")
    connection = sqlite3.connect(study.folder / "study.db")
    connection.execute(
        "UPDATE ledger SET content = NULL, salt = NULL, patient = '' WHERE patient = 'P2'"
    )
    connection.commit()
    connection.close()
    assert "was erased without an entry that records it" in study.ledger.check()


def test_who_was_forgotten_does_not_come_back_under_the_name(study: Study) -> None:
    study.forget("Erika Mustermann", "consent withdrawn")
    (said,) = study.add([Patient("Erika Mustermann", ())], "again").conflicts
    assert "was erased from this study" in said
    assert study.forget("Erika Mustermann", "sweep again").entries == 0
    with pytest.raises(RecordError, match="no patient 'P9'"):
        study.forget("P9", "consent withdrawn")
    with pytest.raises(RecordError, match="Give a reason"):
        study.forget("P2", "")


def test_a_study_open_elsewhere_is_swept_later(study: Study) -> None:
    with open_study(study.folder, wait_s=0.05) as mine:
        reader = as_wal(study.folder)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM ledger").fetchall()
        with pytest.raises(StudyError, match="its journal still has old pages"):
            mine.forget("Erika Mustermann", "consent withdrawn")
        reader.close()
        assert len(mine.manifest().patients) == 1
        mine.forget("Erika Mustermann", "again")
        assert b"1234.5" not in contents(study.folder)


def test_while_another_program_reads_nobody_is_forgotten(study: Study) -> None:
    features = study.folder / "features" / "Doe-1987.h5"
    with open_study(study.folder, wait_s=0.05) as mine:
        reader = sqlite3.connect(study.folder / "study.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM ledger").fetchall()
        with pytest.raises(StudyError, match="or reading it. Nothing was changed; try again"):
            mine.forget("Erika Mustermann", "consent withdrawn")
        assert len(mine.manifest().patients) == 2
        assert features.exists()
        reader.close()
        mine.forget("Erika Mustermann", "consent withdrawn")
        assert not features.exists()


def test_models_of_a_forgotten_patient_and_where_files_went_are_named(
    run: Run, tmp_path: Path
) -> None:
    folder, models = tmp_path / "study", tmp_path / "models"
    models.mkdir()
    with create_study(folder, SCHEMA) as study:
        patients = []
        for k in range(12):
            path = folder / "features" / f"s{k}.h5"
            save_bag(path, make_bag(k))
            row = SlideRow(f"s{k}", feature_path=path)
            patients.append(Patient(f"P{k}", (row,), CLASSES[k % 2], Split(SPLITS[k])))
        study.add(patients, "import")
        study.ledger.note(Act.EXPORTED, patient="P1", destination="/mnt/usb/map.png")
        study.ledger.note(Act.EXPORTED, patient="P3", destination="/mnt/usb/other.png")
        Key(default_key(study.identity), {"Max": "P1", "Eva": "P3"}, {"m": "s1"}).save()
    command = ("train", folder, "--model", "abmil", "--epochs", 1, "-o")
    assert run(*command, folder / "models" / "one.safetensors")[0] == 0
    (models / "two.safetensors").write_bytes((folder / "models" / "one.safetensors").read_bytes())
    (models / "bad.safetensors").write_bytes(b"no")
    forgotten = ("study", "forget", folder, "P1", "--why", "consent", "--models", models)
    code, told, _ = run(*forgotten)
    assert code == 0
    assert [Path(path).name for path in told["models_trained_on_them"]] == [
        "two.safetensors", "one.safetensors"
    ]  # fmt: skip
    assert [Path(path).name for path in told["models_not_readable"]] == ["bad.safetensors"]
    assert told["given_away"] == ["/mnt/usb/map.png"]
    with open_study(folder) as study:
        key = read_key(default_key(study.identity), folder)
        assert (key.patients, key.slides) == ({"Eva": "P3"}, {})
        assert told["key_without_them"] == str(key.path)
        assert forget(study, "P11", "consent").models == ()


def test_features_outside_are_named_and_left(study: Study, tmp_path: Path) -> None:
    outside = tmp_path / "clam.h5"
    save_bag(outside, make_bag(2))
    study.add([Patient("P2", (SlideRow("b", feature_path=outside),))], "link")
    found = forget(study, "P2", "consent").found
    assert (found.erased, found.outside) == ((), (outside,))
    assert outside.exists()


def test_what_leaves_is_noted_with_its_hash(study: Study, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"")
    study.ledger.left(
        Act.EXPORTED, tmp_path / "map.png", patient="P2", identifying=False, model="m"
    )
    entry = study.ledger.entries("P2")[-1]
    assert entry.file == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (entry.destination, entry.identifying, entry.model) == (
        str(tmp_path / "map.png"),
        False,
        "m",
    )


OFFLINE = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
from pathlib import Path
from cohorts import make_bag
from napari_wsimil.features.store import save_bag
from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.study.pseudonyms import default_key, read_key
from napari_wsimil.study.create_study import open_study
folder, model = Path(sys.argv[1]), sys.argv[2]
def run(*words):
    assert main([str(word) for word in words]) == 0, words
run("study", "create", folder, "--schema", "phantom")
with open_study(folder) as study:
    rows = []
    for k in range(12):
        path = folder / "features" / f"s{k}.h5"
        save_bag(path, make_bag(k))
        rows.append(Patient(f"Jane {k}", (SlideRow(f"s{k}", feature_path=path),), "ab"[k % 2]))
    key = read_key(default_key(study.identity), folder)
    patients, key = key.disguised(rows, study.manifest())
    key.save()
    study.add(patients, "import")
run("study", "edit", folder, "P0001", "--set", "ldh=210", "--why", "lab")
run("study", "show", folder, "P0001", "--identifying")
run("train", folder, "--model", "abmil", "--epochs", "1", "-o", model)
run("predict", model, folder / "features" / "s0.h5")
run("explain", model, folder / "features" / "s0.h5")
run("evaluate", model, folder)
run("study", "share", folder, folder.with_name("copy"))
run("study", "forget", folder, "P0001", "--why", "consent")
run("study", "ledger", folder)
print("all of it ran")
"""


def test_nothing_opens_a_socket(tmp_path: Path) -> None:
    child = beside(OFFLINE, tmp_path / "study", tmp_path / "model.safetensors")
    said = child.communicate(timeout=120)[0]
    assert said.splitlines()[-1] == "all of it ran"
    assert child.returncode == 0
    assert os.listdir(tmp_path / "study" / "exports") == []
