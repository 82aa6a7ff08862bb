"""Runs: a study knows which models were trained on it, and on whom."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from studies import as_version_1, damage, of_a_later_version, planted_study, small_study

from napari_wsimil.cli.main import main
from napari_wsimil.study import create_study as study_module
from napari_wsimil.study import database
from napari_wsimil.study.create_study import Unit, open_study
from napari_wsimil.study.health import Health
from napari_wsimil.study.orm import VERSION
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.erase_patient import forget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps keys in a folder of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line; gives exit code, what JSON it printed, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def _keep(folder: Path, path: Path, trained: tuple[str, ...] = ("P1",)) -> None:
    with open_study(folder, who="bea") as study:
        study.runs.add("abmil", "ab12", path, {"test auc": 0.75}, trained, ("P2",))


@pytest.mark.parametrize("unit", list(Unit))
def test_a_run_opens_its_study_twice_to_read_it_and_to_keep_the_run(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: Unit
) -> None:
    folder, opened, known = tmp_path / "study", [], study_module.open_database
    planted_study(folder, unit).close()

    def counted(*given: Any) -> Any:
        opened.append(given)
        return known(*given)

    monkeypatch.setattr(study_module, "open_database", counted)
    how = ("--model", "abmil", "--epochs", 1)
    code, _, err = command("train", folder, "-o", tmp_path / "one.safetensors", *how)
    assert code == 0, err
    assert len(opened) == 2


def test_training_on_a_study_is_kept_with_its_patients(command: Command, tmp_path: Path) -> None:
    folder, out = tmp_path / "study", tmp_path / "study" / "models" / "one.safetensors"
    planted_study(folder).close()
    code, told, _ = command("train", folder, "-o", out, "--model", "abmil", "--epochs", 1)
    assert code == 0
    with open_study(folder) as study:
        (run,) = study.runs.read()
    assert (run.method, run.name, run.path, run.patients) == ("abmil", out.name, out, 8)
    assert run.model == load_checkpoint(out)[1].weights
    assert run.figures == told["metrics"]
    assert run.trained == tuple(f"P{k}" for k in range(6))
    assert run.selected == ("P6", "P7")
    shown = command("study", "show", folder, "--runs")[1]
    assert shown["models_trained"] == 1
    assert shown["runs"]["1"]["sha256"] == run.model
    assert "P0" not in json.dumps(shown)


def test_training_on_a_study_that_cannot_be_written_succeeds_and_says_so(
    command: Command, tmp_path: Path
) -> None:
    folder, out = tmp_path / "study", tmp_path / "one.safetensors"
    planted_study(folder).close()
    of_a_later_version(folder)
    code, told, err = command("train", folder, "-o", out, "--model", "abmil", "--epochs", 1)
    assert (code, told["checkpoint"]) == (0, str(out))
    assert out.exists()
    assert "warning: the run was not added to the study: " in err
    assert "newer version" in err


def test_a_checkpoint_elsewhere_is_known_by_its_name_alone(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    small_study(folder).close()
    _keep(folder, tmp_path / "slides" / "deep" / "m.safetensors")  # below a root of the study
    _keep(folder, tmp_path / "elsewhere" / "n.safetensors")
    with open_study(folder) as study:
        rooted, named = study.runs.read()
        assert rooted.path == tmp_path / "slides" / "deep" / "m.safetensors"
        assert (named.name, named.path) == ("n.safetensors", None)
        study.set_root("slides", tmp_path / "moved", "new disk")
        assert study.runs.read()[0].path == tmp_path / "moved" / "deep" / "m.safetensors"


def test_who_was_forgotten_is_counted_and_not_named(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    small_study(folder).close()
    _keep(folder, folder / "models" / "m.safetensors", ("P1", "somebody who is gone"))
    with open_study(folder) as study:
        (run,) = study.runs.read("P1")
        assert (run.patients, run.trained, run.selected) == (3, ("P1",), ("P2",))
        assert study.runs.read("somebody who is gone") == ()
        study.forget("P1", "consent")
        (run,) = study.runs.read()
        assert (run.patients, run.trained, run.selected) == (3, (), ("P2",))
        assert study.runs.read("P1") == ()


def test_a_model_is_named_though_its_file_was_moved_away(command: Command, tmp_path: Path) -> None:
    folder, out = tmp_path / "study", tmp_path / "study" / "models" / "one.safetensors"
    planted_study(folder).close()
    assert command("train", folder, "-o", out, "--model", "abmil", "--epochs", 1)[0] == 0
    out.rename(tmp_path / "taken.safetensors")
    weights = load_checkpoint(tmp_path / "taken.safetensors")[1].weights
    told = command("study", "forget", folder, "P1", "--why", "consent")[1]
    assert told["models_trained_on_them"] == []
    (words,) = told["models_not_where_they_were"]
    assert words.startswith("one.safetensors (abmil of ")
    assert weights in words
    with open_study(folder) as study:
        assert forget(study, "P11", "consent").moved == ()  # who tested taught it nothing
        assert [run.model for run in forget(study, "P7", "consent").moved] == [weights]


def test_a_model_is_looked_for_where_its_run_says(command: Command, tmp_path: Path) -> None:
    folder, out = tmp_path / "study", tmp_path / "study" / "one.safetensors"  # not in models/
    planted_study(folder).close()
    train = ("train", folder, "-o", out, "--model", "abmil", "--epochs", 1)
    assert command(*train)[0] == 0
    assert command(*train, "--seed", 1)[0] == 0  # over the first
    with open_study(folder) as study:
        first, second = study.runs.read()
        found = forget(study, "P1", "consent")
    assert found.models == (out,)
    assert [run.model for run in found.moved] == [first.model]
    assert first.model != second.model


def test_a_copy_to_share_has_no_runs_and_says_so(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    planted_study(folder).close()
    removed = command("study", "share", folder, tmp_path / "empty")[1]["removed"]
    assert not [said for said in removed if "runs" in said]
    _keep(folder, folder / "models" / "m.safetensors")
    removed = command("study", "share", folder, tmp_path / "copy")[1]["removed"]
    assert "1 runs: which models were trained, by whom, on which patients" in removed
    with open_study(tmp_path / "copy") as copy:
        assert copy.runs.read() == ()


def test_a_study_of_version_1_gets_the_tables_it_lacks(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    with open_study(tmp_path) as study:
        assert study.read_only == ""
        assert study.runs.read() == ()
        assert len(study.manifest().patients) == 2
    _keep(tmp_path, tmp_path / "m.safetensors")
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            connection.execute("DELETE FROM ledger")
    with open_study(tmp_path) as study:
        assert [run.model for run in study.runs.read()] == ["ab12"]


def test_a_study_of_version_1_that_is_locked_has_no_runs_and_stays_as_it_is(
    tmp_path: Path,
) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_study(tmp_path, wait_s=0.05) as study:
        assert "locked by another program" in study.read_only
        assert study.runs.read() == ()
        assert len(study.manifest().patients) == 2
    assert other.execute("PRAGMA user_version").fetchone() == (1,)
    other.close()


def test_a_study_that_cannot_be_brought_up_is_read_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    sound = Health.SOUND, ""
    monkeypatch.setattr(database, "examine", lambda *_: sound)  # locked only afterwards
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_study(tmp_path, wait_s=0.05) as study:
        assert "another program is writing to the study" in study.read_only
        assert study.runs.read() == ()
        assert len(study.manifest().patients) == 2
    other.close()


def test_a_copy_in_memory_of_version_1_has_no_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    alone = Health.UNREACHABLE, "it may not be written"
    monkeypatch.setattr(database, "examine", lambda *_: alone)
    with open_study(tmp_path) as study:
        assert (study.read_only, study.runs.read()) == ("it may not be written", ())


def test_a_study_of_version_1_that_is_damaged_has_no_runs(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    damage(tmp_path, "ledger")
    with open_study(tmp_path) as study:
        assert "damaged" in study.read_only
        assert study.runs.read() == ()


def test_of_a_damaged_study_the_runs_are_read(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    _keep(tmp_path, tmp_path / "m.safetensors")
    damage(tmp_path, "ledger")
    with open_study(tmp_path) as study:
        assert "damaged" in study.read_only
        (run,) = study.runs.read()
        assert (run.model, run.trained, run.patients) == ("ab12", ("P1",), 2)
