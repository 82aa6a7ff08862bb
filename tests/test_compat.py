"""Files and command lines of version 0.1.0 still work: see `compat/README.md`."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.features.store import load_bag
from napari_wsimil.study.create_study import open_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_wsimil.study.create_study import Study

FOLDER = Path(__file__).parent / "compat"
COMMANDS = json.loads((FOLDER / "commands.json").read_text())
EXPECTED = json.loads((FOLDER / "library.json").read_text())
VERBS = json.loads((FOLDER / "verbs.json").read_text())
#: Other machines round otherwise; on the one that wrote the files values are equal.
TOLERANCE = {"rel": 1e-4, "abs": 1e-6}
#: Where weights are trained again.
LOOSE = {"rel": 1e-2, "abs": 1e-3}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the files is the working folder."""
    with zipfile.ZipFile(FOLDER / "files.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(files: None) -> Iterator[Study]:
    with open_study("study", who="grace") as opened:
        yield opened


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of JSON by their place."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, one in pairs for k, v in flat(one, f"{name}/{key}").items()}
    return {name: value}


def same(value: Any, tolerance: dict[str, float]) -> Any:
    """Return what a value is compared with: numbers nearly, all else exactly."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return pytest.approx(value, **tolerance) if number else value


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(line["arguments"][:4]))
def test_a_command_line_prints_the_same_values(
    line: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line["arguments"]) == line["code"]
    out = capsys.readouterr().out
    printed = flat(json.loads(out)) if out else {}
    tolerance = LOOSE if line["arguments"][0] == "train" else TOLERANCE
    missing = line["values"].keys() - printed.keys()
    assert not missing
    for name, value in line["values"].items():
        assert printed[name] == same(value, tolerance), name


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: "-".join(verb["verb"]))
def test_a_verb_accepts_its_options(
    verb: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    long = [f"{name}=1" for name in verb["values"] if name.startswith("--")]
    short = [part for name in verb["values"] if not name.startswith("--") for part in (name, "1")]
    code = main([*verb["verb"], *long, *short, *verb["flags"], "--help"])
    assert code == 0, capsys.readouterr().err


def test_checkpoints_have_their_weights_and_cards() -> None:
    for path in Path("models").iterdir():
        model, card = load_checkpoint(path)
        total = sum(float(one.abs().sum()) for one in model.state_dict().values())
        assert total == pytest.approx(EXPECTED["weights"][path.stem], rel=1e-5)
        assert card.weights == EXPECTED["cards"][path.stem]
    assert {path.stem for path in Path("models").iterdir()} == set(EXPECTED["cards"])


def test_features_have_their_places() -> None:
    bag = load_bag("study/features/P001-S1.h5")
    assert [*bag.features.shape] == EXPECTED["features"][:2]
    assert float(bag.features.abs().sum()) == pytest.approx(EXPECTED["features"][2], rel=1e-5)
    assert bag.grid is not None
    assert bag.grid.coords.tolist() == EXPECTED["coords"]


def test_a_saved_run_and_a_schema_are_read() -> None:
    run = read_run(Path("run.json"))
    assert [run.model, run.fit.epochs, run.threads, run.cohort.name] == EXPECTED["run"]
    assert [field.name for field in read_schema("schema.yaml").fields] == EXPECTED["schema"]


def test_a_study_has_its_records_outcomes_and_links(study: Study) -> None:
    patients = study.manifest().patients
    records = {one.name: one.record.digest() for one in patients if one.record}
    outcomes = {one.name: [one.label, one.split, one.time, one.event] for one in patients}
    assert records == EXPECTED["records"]
    assert outcomes == EXPECTED["outcomes"]
    assert {name: link.path.name for name, link in study.links().items()} == EXPECTED["links"]


def test_a_study_has_its_runs_predictions_and_reviews(study: Study) -> None:
    runs = [[one.method, one.model, one.patients] for one in study.runs.read()]
    latest, reviews = study.predictions.latest(), study.reviews.latest()
    assert runs == EXPECTED["runs"]
    predictions = {name: [one.model, dict(one.probabilities)] for name, one in latest.items()}
    assert predictions == EXPECTED["predictions"]
    assert {name: one.verdict for name, one in reviews.items()} == EXPECTED["reviews"]


def test_an_audit_log_of_every_kind_holds_and_goes_on(study: Study) -> None:
    log = [[one.act, one.patient, one.hash] for one in study.ledger.entries()]
    assert log == EXPECTED["log"]
    assert study.ledger.check() == ""
    before = study.records.read("P003")
    study.records.correct("P003", {"ldh": 321.0}, "new report", version=before.version)
    assert study.records.read("P003").record["ldh"] == 321
    assert study.ledger.check() == ""
    assert [one.hash for one in study.ledger.entries()][: len(log)] == [one[2] for one in log]
    assert study.records.undo("P003").record == before.record


def test_an_entry_that_was_changed_breaks_the_old_chain() -> None:
    with closing(sqlite3.connect("study/study.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER ledger_holds")
        connection.execute("UPDATE ledger SET content = replace(content, 'misread', 'read')")
    with open_study("study") as study:
        assert study.ledger.check() != ""
