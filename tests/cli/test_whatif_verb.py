"""`napari-wsimil whatif`: one case with its maps, many cases a row each, a manifest or a study."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from records import CLASSES, WARD, make_cohort, make_reader, make_slide

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.scenario import read_scenario
from napari_wsimil.clinical.schema import write_schema
from napari_wsimil.cohort.manifest import Patient, Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.cohort.table import write_table
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.store import save_bag
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import create_study, open_study
from napari_wsimil.study.orm import VERSION
from napari_wsimil.training.checkpoint import load_checkpoint, save_checkpoint
from napari_wsimil.training.dataset import read_cohort

if TYPE_CHECKING:
    from napari_wsimil.study.audit_log import Entry

COHORT = make_cohort(4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, four patients with features, one more whose features are not there, a study."""
    folder = tmp_path_factory.mktemp("whatif")
    model, card = make_reader()
    save_checkpoint(folder / "live.safetensors", model, card)
    rows = []
    for k, record in enumerate([*COHORT, COHORT[0]]):
        if k < 4:
            save_bag(folder / f"s{k}.h5", make_slide(seed=k))
        split = "test" if k in (1, 4) else "train"
        rows.append([f"p{k}", f"s{k}", f"s{k}.h5", split, "A", *WARD.format(record).values()])
    columns = ["patient_id", "slide_id", "feature_path", "split", "label", *WARD.by_name]
    write_table(folder / "cohort.csv", columns, rows)
    write_schema(WARD, folder / "ward.yaml")
    with create_study(folder / "study", WARD) as study:
        study.add(read_manifest(folder / "cohort.csv", WARD).patients, "a test")
        study.add([Patient("p5", (), split=Split.TRAIN, record=COHORT[0])], "without a slide")
    return folder


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    capfd.readouterr()
    code = main(["whatif", *map(str, arguments), "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out) if out else None, err


@pytest.mark.parametrize("source", ["cohort.csv", "study"])
def test_one_case_tells_answers_movement_noise_and_flags(
    place: Path, capfd: pytest.CaptureFixture[str], source: str
) -> None:
    sets = ("--set", "ldh=900", "--set", "age=missing", "--set", "lymphocytes=50")
    model = place / "live.safetensors"
    code, told, err = run(capfd, model, place / "s1.h5", "--manifest", place / source, *sets)
    assert code == 0
    loaded = make_reader()
    before, after = (
        predict(*loaded, make_slide(seed=1), WARD.apply(COHORT[1], changes))
        for changes in ({}, {"ldh": "900", "age": "missing", "lymphocytes": "50"})
    )
    for number, name in enumerate(CLASSES):
        shown = told["probabilities"][name]
        assert shown["before"] == pytest.approx(before.probabilities[number].item(), abs=1e-6)
        assert shown["after"] == pytest.approx(after.probabilities[number].item(), abs=1e-6)
        assert shown["change"] == pytest.approx(shown["after"] - shown["before"])
    assert told["changes"]["age"] == {"before": "41", "after": "missing"}
    assert "explanatory: B" in told["maps"]
    main_map = told["maps"]["attention"]
    bound = main_map["noise"]["patches drawn"]["moved"]
    assert main_map["within noise"] == (main_map["moved"] <= bound)
    assert told["rules broken"] == ["lymphocytes 50 must be <= leukocytes 3.1"]
    assert "ldh 900 is outside the 200 to 590 U/L of the training records" in err
    assert any("ldh 900" in warning for warning in told["warnings"])
    record = read_cohort(place / source, WARD).patients[1].record
    assert record == COHORT[1]  # it stays as it is


def test_maps_before_after_and_difference_are_written(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, told, _ = run(
        capfd,
        *(place / "live.safetensors", place / "s1.h5", "--manifest", place / "cohort.csv"),
        *("--set", "ldh=500", "--out", tmp_path / "maps", "--no-noise"),
    )
    assert code == 0
    assert "noise" not in told["maps"]["attention"]
    tables = {}
    for name in ("before", "after", "difference"):
        assert (tmp_path / "maps" / f"{name}.png").stat().st_size > 1000
        with (tmp_path / "maps" / f"{name}.csv").open() as file:
            tables[name] = list(csv.DictReader(file))
    assert len(told["files"]) == 6
    for row, was, is_ in zip(tables["difference"], tables["before"], tables["after"], strict=True):
        brighter = float(is_["explanatory: B"]) - float(was["explanatory: B"])
        assert float(row["explanatory, brighter: B"]) == pytest.approx(brighter, abs=1e-6)
        moved = (float(is_["attention"]) - float(was["attention"])) * 150
        assert float(row["attention, moved"]) == pytest.approx(moved, abs=1e-4)


def test_a_scenario_over_all_cases_names_who_failed_and_goes_on(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "low.yaml").write_text("name: low LDH\nschema: ward\nchanges: {ldh: 200}\n")
    code, told, err = run(
        capfd,
        *(place / "live.safetensors", "--manifest", place / "cohort.csv", "--no-noise"),
        *("--scenario", tmp_path / "low.yaml", "--out", tmp_path / "low"),
    )
    assert code == 1
    assert told["failed"] == ["p4"]
    assert "warning: p4: " in err
    assert [row["case"] for row in told["cases"]] == ["p0", "p1", "p2", "p3", "p4"]
    moved = [row["slides"][0]["moved"] for row in told["cases"][:4]]
    assert moved[0] == 0  # that patient's is 200 already
    assert min(moved[1:]) > 0
    with (tmp_path / "low" / "whatif.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [row["case"] for row in told["cases"]]
    assert float(rows[2]["after: A"]) == told["cases"][2]["after"]["A"]
    assert float(rows[2]["moved"]) == moved[2]
    assert "s4" in rows[4]["failed"]
    assert str(place) not in rows[4]["failed"] + err


def test_the_cases_of_a_split_alone_and_the_exit_code_of_all_well(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = (place / "live.safetensors", "--manifest", place / "study", "--set", "ldh=500")
    code, told, _ = run(capfd, *cases, "--split", "train", "--no-noise")
    assert code == 0
    assert [row["case"] for row in told["cases"]] == ["p0", "p2", "p3"]
    assert told["without a slide"] == 1
    code, told, _ = run(capfd, *cases, "--split", "train")
    assert all(isinstance(row["slides"][0]["within noise"], bool) for row in told["cases"])


def test_changes_are_saved_as_a_scenario_that_does_the_same(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = (place / "live.safetensors", place / "s1.h5", "--manifest", place / "cohort.csv")
    saved = tmp_path / "a.yaml"
    one = run(capfd, *case, "--set", "ldh=500", "--no-noise", "--save-scenario", saved)[1]
    assert read_scenario(saved).changes == {"ldh": "500"}
    assert run(capfd, *case, "--scenario", saved, "--no-noise")[1] == one


def test_fold_models_are_part_of_the_noise(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = (place / "live.safetensors", place / "s1.h5", "--manifest", place / "cohort.csv")
    fold = ("--fold-model", place / "live.safetensors")
    told = run(capfd, *case, "--set", "ldh=500", *fold)[1]
    assert told["maps"]["attention"]["noise"]["fold models"]["moved"] == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "Give --set or --missing"),
        (("--missing", "bones"), "'bones' is none of interview, blood, all"),
        (("--set", "ldh"), "'ldh' is not FIELD=VALUE"),
        (("--set", "lhd=5"), "did you mean 'ldh'"),
        (("--set", "age=200"), "'200' is not a possible 0 to 120 years"),
        (("--set", "ldh=5", "--split", "test"), "--split is for many cases"),
    ],
)
def test_it_refuses_in_one_line(
    place: Path, capfd: pytest.CaptureFixture[str], more: tuple[str, ...], told: str
) -> None:
    case = (place / "live.safetensors", place / "s1.h5", "--manifest", place / "cohort.csv")
    code, _, err = run(capfd, *case, *more)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_what_is_for_one_slide_is_refused_for_many(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(
        capfd,
        place / "live.safetensors",
        "--manifest",
        place / "study",
        "--patch-size",
        "9",
        "--set",
        "ldh=5",
    )
    assert code == 2
    assert "--patch-size is for one slide" in err


def test_a_group_or_all_can_be_taken_away(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = (place / "live.safetensors", place / "s1.h5", "--manifest", place / "study")
    told = run(capfd, *case, "--missing", "blood", "--no-noise")[1]
    assert told["changes"].keys() == {"stage", "ldh", "lymphocytes", "leukocytes"}
    assert {one["after"] for one in told["changes"].values()} == {"missing"}
    assert told["scalars"][f"phi: {CLASSES[1]}"].keys() == {"before", "after"}
    told = run(capfd, *case, "--missing", "all", "--set", "ldh=300", "--no-noise")[1]
    assert told["changes"]["age"]["after"] == "missing"
    assert told["changes"]["ldh"]["after"] == "300"


# a study in place of a manifest


def test_what_is_written_of_a_study_is_noted_in_its_ledger(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = (place / "live.safetensors", "--manifest", place / "study", "--set", "ldh=500")
    run(capfd, *case, place / "s1.h5", "--no-noise", "--out", tmp_path / "one")
    run(capfd, *case, "--no-noise", "--out", tmp_path / "many")
    with open_study(place / "study") as study:
        left = [one for one in study.ledger.entries() if one.act is Act.EXPORTED]
    noted = {(Path(one.destination).name, one.patient) for one in left}
    assert ("difference.csv", "p1") in noted
    assert ("whatif.csv", "") in noted
    assert len(left) == 7
    assert all(one.file and one.identifying is False for one in left)
    for one in left:
        assert one.file == hashlib.sha256(Path(one.destination).read_bytes()).hexdigest()
    assert str(place) not in (tmp_path / "many" / "whatif.csv").read_text()


@pytest.fixture
def asked_study(place: Path, tmp_path: Path) -> Path:
    """A study of two patients with features, one of whom has two slides."""
    patients = read_manifest(place / "cohort.csv", WARD).patients
    with create_study(tmp_path / "asked", WARD) as study:
        twice = replace(patients[1], slides=(*patients[1].slides, *patients[2].slides))
        study.add([patients[0], twice, patients[4]], "a test")
    return tmp_path / "asked"


def tried(folder: Path) -> list[Entry]:
    with open_study(folder) as study:
        assert study.ledger.check() == ""
        return [one for one in study.ledger.entries() if one.act is Act.WHAT_IF]


def test_what_is_tried_on_one_patient_is_noted_as_in_the_window(
    place: Path, asked_study: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = (place / "live.safetensors", place / "s1.h5", "--manifest", asked_study, "--no-noise")
    told = run(capfd, *case, "--set", "ldh=500", "--set", "age=missing")[1]
    entries = tried(asked_study)
    assert [(e.patient, e.field, e.old, e.new) for e in entries] == [
        ("p1", "age", "41", ""),
        ("p1", "ldh", "210", "500"),
    ]
    _, card = load_checkpoint(place / "live.safetensors")
    other = WARD.apply(COHORT[1], {"ldh": "500", "age": "missing"})
    for entry in entries:
        assert (entry.model, entry.record) == (card.weights, other.digest())
        rows = make_slide(seed=1).features.numpy()
        assert entry.features == hashlib.sha256(rows.tobytes()).hexdigest()
        assert entry.effect.distance == pytest.approx(told["maps"]["attention"]["distance"])
        assert entry.effect.probability["A"] == pytest.approx(told["probabilities"]["A"]["change"])
        assert entry.why == "given in the command"
    run(capfd, *case, "--set", "ldh=210")  # it is so already: nothing was tried
    assert len(tried(asked_study)) == 2


def test_a_scenario_is_noted_of_each_patient_whom_the_model_answered_for(
    place: Path, asked_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "high.yaml").write_text("name: high LDH\nschema: ward\nchanges: {ldh: 500}\n")
    cases = (place / "live.safetensors", "--manifest", asked_study, "--no-noise")
    code, told, _ = run(capfd, *cases, "--scenario", tmp_path / "high.yaml")
    assert (code, told["failed"]) == (1, ["p4"])
    entries = tried(asked_study)
    assert [(e.patient, e.old, e.new, e.why) for e in entries] == [
        ("p0", "200", "500", "scenario high LDH"),
        ("p1", "210", "500", "scenario high LDH"),
    ]
    slides = told["cases"][1]["slides"]
    assert len(slides) == 2
    assert entries[1].effect.distance == max(slide["distance"] for slide in slides)
    assert entries[1].effect.overlap == min(slide["overlap"] for slide in slides)
    assert entries[1].effect.probability == told["cases"][1]["change"]
    rows = (make_slide(seed=seed).features.numpy().tobytes() for seed in (1, 2))
    assert entries[1].features == hashlib.sha256(b"".join(rows)).hexdigest()


def test_of_a_study_that_cannot_be_written_nothing_leaves_and_what_is_tried_is_told(
    place: Path, asked_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(asked_study / "study.db")) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    case = (place / "live.safetensors", "--manifest", asked_study, "--set", "ldh=500")
    for one in ((), (place / "s1.h5",)):
        code, _, err = run(capfd, *case, *one, "--no-noise", "--out", tmp_path / "out")
        assert (code, "could not be noted" in err) == (2, True)
        assert not (tmp_path / "out").exists()
    code, told, err = run(capfd, *case, place / "s1.h5", "--no-noise")
    assert (code, "not noted: " in err) == (0, True)
    assert told["probabilities"]
    assert tried(asked_study) == []


def test_a_study_of_another_schema_names_the_fields(place: Path, tmp_path: Path) -> None:
    fields = [f.model_copy(update={"unit": "mg/L"}) if f.name == "ldh" else f for f in WARD.fields]
    other = WARD.model_copy(update={"fields": tuple(fields[1:]), "inputs": ("smoker",)})
    create_study(tmp_path / "other", other).close()
    with pytest.raises(RecordError, match="without age, with another ldh"):
        read_cohort(tmp_path / "other", WARD)


def test_records_of_a_study_are_read_as_the_models_schema_reads_them(place: Path) -> None:
    narrower = WARD.model_copy(update={"fields": WARD.fields[:5], "rules": (), "inputs": ("age",)})
    record = read_cohort(place / "study", narrower).patients[1].record
    assert record is not None
    assert record.values.keys() == {f.name for f in narrower.fields}
    assert record["ldh"] == 210
    assert record["site"] is not Absent.MISSING
    assert read_cohort(place / "study", None).patients[1].record == COHORT[1]
