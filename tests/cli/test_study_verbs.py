"""Studies on the command line: made, shown, edited, trained on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cohorts import make_bag
from records import with_inputs
from studies import SCHEMA, planted_study, record, record_history, small_study

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import read_schema, write_schema
from napari_wsimil.features.store import save_bag
from napari_wsimil.study.create_study import open_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import read_cohort

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, Any, str]]


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
def cohort(tmp_path: Path) -> Path:
    """A closed study of twelve patients with planted bags and records."""
    planted_study(tmp_path / "study").close()
    return tmp_path / "study"


def test_a_study_is_made_and_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "Smith.svs").touch()
    made = run("study", "create", tmp_path / "s", "--schema", "phantom", "--unit", "slide",
               "--slides", tmp_path / "scans")  # fmt: skip
    code, told, _ = run("study", "show", tmp_path / "s")
    assert (made[0], code) == (0, 0)
    assert made[1] == told
    assert (told["unit"], told["fields"], told["patients"]) == ("slide", 28, 1)
    assert told["images"] == {"known": 1, "there": 1}
    assert "holds" in told["ledger"]
    for identifying in ((), ("--identifying",)):
        told = run("study", "show", tmp_path / "s", "P0001", *identifying)[1]
        assert ("Smith" in json.dumps(told)) == bool(identifying)


def test_a_schema_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("study", "create", tmp_path / "s", "--schema", "phantm")
    assert code == 2
    assert "'phantm' is neither a file nor one of " in err
    assert not (tmp_path / "s").exists()


def test_a_record_is_edited_undone_and_redone(run: Run, tmp_path: Path) -> None:
    small_study(tmp_path).close()
    edit = ("study", "edit", tmp_path, "P2")
    code, told, _ = run(*edit, "--set", "ldh=210", "--set", "site=not applicable", "--why", "lab")
    assert (code, told["ldh"], told["site"]) == (0, "210", "not applicable")
    assert run("study", "show", tmp_path, "P2")[1]["record"] == told
    assert run(*edit, "--undo")[1]["ldh"] == "180"
    assert run(*edit, "--redo")[1] == told
    assert run(*edit, "--set", "ldh=missing", "--why", "lab")[1]["ldh"] == "missing"
    with open_study(tmp_path) as study:
        assert [e.why for e in record_history(study, "P2")][1:3] == ["lab", "lab"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "ldh=many", "--why", "x"), "'many' is not a finite number in U/L"),
        (("--set", "ldh", "--why", "x"), "not FIELD=VALUE"),
        (("--set", "ldj=1", "--why", "x"), "did you mean 'ldh'"),
        (("--set", "ldh=1"), "Give a reason"),
        ((), "give one of --set"),
        (("--set", "ldh=1", "--undo"), "give one of --set"),
        (("--undo",), "nothing to undo"),
    ],
)
def test_a_wrong_edit_is_one_line_and_changes_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    small_study(tmp_path).close()
    code, _, err = run("study", "edit", tmp_path, "P2", *arguments)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    with open_study(tmp_path) as study:
        assert study.patient("P2").record == record(ldh=180.0)


def test_the_ledger_is_told(run: Run, tmp_path: Path) -> None:
    small_study(tmp_path).close()
    run("study", "edit", tmp_path, "P2", "--set", "ldh=210", "--why", "lab")
    _, told, _ = run("study", "ledger", tmp_path, "P2", "--newest", 1)
    (entry,) = told["entries"]
    assert told["chain"] == "holds"
    assert (entry["act"], entry["field"], entry["old"], entry["new"], entry["why"]) == (
        "corrected",
        "ldh",
        "180",
        "210",
        "lab",
    )


def test_a_schema_is_written_changed_and_taken(run: Run, tmp_path: Path) -> None:
    small_study(tmp_path / "s").close()
    file = tmp_path / "schema.yaml"
    assert run("study", "schema", tmp_path / "s", file)[0] == 0
    assert read_schema(file) == SCHEMA
    write_schema(with_inputs(SCHEMA, ("ldh",)), file)
    assert run("study", "schema", tmp_path / "s", file, "--why", "fewer inputs")[0] == 0
    with open_study(tmp_path / "s") as study:
        assert study.schema.inputs == ("ldh",)


def test_slides_that_moved_are_found_again(run: Run, tmp_path: Path) -> None:
    small_study(tmp_path / "s").close()
    run("study", "root", tmp_path / "s", "slides", tmp_path / "disk")
    told = run("study", "show", tmp_path / "s", "--identifying")[1]
    assert told["roots"] == {"slides": str(tmp_path / "disk")}


@pytest.mark.parametrize("model", ["abmil", "persam-live"])
def test_a_study_is_trained_and_evaluated(
    run: Run, cohort: Path, tmp_path: Path, model: str
) -> None:
    torch.set_num_threads(1)
    out = tmp_path / "model.safetensors"
    assert run("train", cohort, "-o", out, "--model", model, "--epochs", 1)[0] == 0
    _, card = load_checkpoint(out)
    assert card.trained_on("P0")
    assert not card.trained_on("P11")
    assert (card.record is not None) == (model == "persam-live")
    code, told, _ = run("evaluate", out, cohort)
    assert (code, told["patients"]) == (0, 4)


def test_a_study_of_another_schema_is_refused_by_field(cohort: Path) -> None:
    other = SCHEMA.model_copy(
        update={
            "fields": (*SCHEMA.fields, SCHEMA.fields[0].model_copy(update={"name": "age"})),
            "inputs": ("ldh", "age"),
        }
    )
    with pytest.raises(RecordError, match="without age"):
        read_cohort(cohort, other)


def test_an_exported_map_is_noted_in_its_study(run: Run, cohort: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    out, picture = tmp_path / "model.safetensors", tmp_path / "map.csv"
    assert run("train", cohort, "-o", out, "--model", "abmil", "--epochs", 1)[0] == 0
    save_bag(tmp_path / "other.h5", make_bag(3))
    code, _, err = run("export-map", out, tmp_path / "other.h5", picture, "--study", cohort)
    assert code == 2
    assert "is no slide and no features of" in err
    assert not picture.exists()
    features = cohort / "features" / "s3.h5"
    assert run("export-map", out, features, picture, "--study", cohort)[0] == 0
    with open_study(cohort) as study:
        entry = study.ledger.entries()[-1]
    assert (entry.act.value, entry.patient, entry.identifying) == ("exported", "P3", False)
    assert entry.destination == str(picture)
    assert entry.file == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert entry.model == load_checkpoint(out)[1].weights


@pytest.mark.parametrize("verb", ["explain", "effect"])
def test_maps_and_curves_that_leave_are_noted_in_their_study(
    run: Run, cohort: Path, tmp_path: Path, verb: str
) -> None:
    torch.set_num_threads(1)
    out, written = tmp_path / "model.safetensors", tmp_path / "left.csv"
    assert run("train", cohort, "-o", out, "--model", "persam-live", "--epochs", 1)[0] == 0
    features = cohort / "features" / "s3.h5"
    code, _, err = run(verb, out, features, "--study", cohort)
    assert (code, "write it with --out" in err) == (2, True)
    for source in ("--study", "--manifest"):
        assert run(verb, out, features, "--out", written, source, cohort)[0] == 0
        with open_study(cohort) as study:
            entry = study.ledger.entries()[-1]
        assert (entry.act.value, entry.patient, entry.identifying) == ("exported", "P3", False)
        assert entry.destination == str(written)
        assert entry.file == hashlib.sha256(written.read_bytes()).hexdigest()
        assert entry.model == load_checkpoint(out)[1].weights
    with open_study(cohort) as study:
        assert [e.act.value for e in study.ledger.entries()].count("exported") == 2
