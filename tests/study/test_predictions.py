"""Predictions: a study keeps what models said last, under the patients' own records alone."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cohorts import make_bag
from studies import as_version_1, of_a_later_version, planted_study, record, small_study

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.explain.predict import predict, predict_patient
from napari_wsimil.features.store import save_bag
from napari_wsimil.study.create_study import StudyError, Unit, open_study
from napari_wsimil.study.predictions import Answer
from napari_wsimil.training.bag_files import bag_of_slide
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.save_predictions import Subject, keep_answer

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed study of twelve patients with planted bags."""
    planted_study(tmp_path / "study").close()
    return tmp_path / "study"


def _trained(command: Command, folder: Path, model: str = "abmil", *options: object) -> Path:
    out = folder.parent / f"{model}.safetensors"
    assert command("train", folder, "-o", out, "--model", model, "--epochs", 1, *options)[0] == 0
    return out


def _answer(patient: str = "P1", model: str = "ab12", tumor: float = 0.75, **said: Any) -> Answer:
    known = {"slide": "", "features": "f0", "record": "r0"} | said
    chances = {"normal": 1 - tumor, "tumor": tumor}
    return Answer(patient=patient, model=model, probabilities=chances, **known)


def test_the_last_answer_of_a_model_under_a_record_takes_the_place_of_the_one_before(
    tmp_path: Path,
) -> None:
    with small_study(tmp_path) as study:
        study.predictions.keep([_answer(), _answer("P2", tumor=0.25)])
        study.predictions.keep([_answer(features="f1", tumor=0.5)])
        others = [_answer(model="cd34"), _answer(record="r1"), _answer(slide="a", tumor=1.0)]
        study.predictions.keep(others)
        mine = study.predictions.read("P1")
        assert [(a.model, a.record, a.slide, a.features) for a in mine] == [
            ("ab12", "r0", "", "f1"),
            ("cd34", "r0", "", "f0"),
            ("ab12", "r1", "", "f0"),
            ("ab12", "r0", "a", "f0"),
        ]
        assert len(study.predictions.read()) == 5
        assert study.predictions.latest() == {"P1": others[2], "P2": study.predictions.read()[0]}
        assert study.predictions.latest()["P2"].words == "normal 75.0%"


def test_what_was_said_last_goes_by_time_and_not_by_writing(tmp_path: Path) -> None:
    with small_study(tmp_path) as study:
        early = datetime(2020, 1, 1, tzinfo=UTC)
        study.predictions.keep([_answer(), _answer(model="old", when=early)])
        assert study.predictions.latest()["P1"].model == "ab12"


def test_nobody_comes_back_by_a_prediction(tmp_path: Path) -> None:
    with small_study(tmp_path) as study:
        study.predictions.keep([_answer("P1", record="SECRET hash")])
        study.forget("P1", "consent")
        study.predictions.keep([_answer("P1"), _answer("P2")])
        assert [a.patient for a in study.predictions.read()] == ["P2"]
    assert b"SECRET" not in b"".join(f.read_bytes() for f in tmp_path.glob("study.db*"))


def test_a_study_of_version_1_has_no_predictions(tmp_path: Path) -> None:
    small_study(tmp_path).close()
    as_version_1(tmp_path)
    with open_study(tmp_path) as study:
        assert study.predictions.latest() == {}
        study.predictions.keep([_answer()])
        assert list(study.predictions.latest()) == ["P1"]


@pytest.mark.parametrize("model", ["abmil", "persam-live"])
def test_evaluation_keeps_what_it_says_of_each_patient(
    command: Command, folder: Path, model: str
) -> None:
    out = _trained(command, folder, model)
    told = command("evaluate", out, folder, "--draws", 100, "--identifying")[1]
    card = load_checkpoint(out)[1]
    with open_study(folder) as study:
        kept = study.predictions.latest()
        known = study.patient("P8")
    assert list(kept) == ["P8", "P9", "P10", "P11"]
    assert {name: dict(a.probabilities) for name, a in kept.items()} == told["probabilities"]
    rows = make_bag(8).features.numpy().tobytes()
    assert kept["P8"].features == hashlib.sha256(rows).hexdigest()
    assert {a.model for a in kept.values()} == {card.weights}
    reads = model == "persam-live"
    assert kept["P8"].record == (known.record.digest() if reads else "")
    shown = command("study", "show", folder, "--predictions")[1]
    assert shown["predictions"]["1"]["said"] == kept["P8"].words
    mine = command("study", "show", folder, "P9", "--predictions")[1]["predictions"]
    assert [one["patient"] for one in mine.values()] == ["P9"]


def test_evaluation_of_a_study_that_cannot_be_written_says_so(
    command: Command, folder: Path
) -> None:
    out = _trained(command, folder)
    of_a_later_version(folder)
    code, told, err = command("evaluate", out, folder, "--draws", 100)
    assert (code, told["patients"]) == (0, 4)
    assert "warning: predictions not stored in the study: " in err


def test_explaining_a_slide_keeps_the_answer_under_its_patients_record(
    command: Command, folder: Path
) -> None:
    out, path = _trained(command, folder, "persam-live"), folder / "features" / "s3.h5"
    assert command("explain", out, path)[0] == 0
    with open_study(folder) as study:
        assert study.predictions.read() == ()  # nobody said whose slide it is
    assert command("explain", out, path, "--manifest", folder)[0] == 0
    model, card = load_checkpoint(out)
    with open_study(folder) as study:
        (kept,) = study.predictions.read()
        known = study.patient("P3")
    said = predict(model, card, bag_of_slide(known.slides[0], None), known.record)
    assert list(kept.probabilities.values()) == said.probabilities.tolist()
    assert (kept.patient, kept.slide, kept.record) == ("P3", "", known.record.digest())


def test_a_model_that_reads_no_record_is_explained_on_a_study(
    command: Command, folder: Path
) -> None:
    out, path = _trained(command, folder), folder / "features" / "s3.h5"
    assert command("explain", out, path, "--manifest", folder)[0] == 0
    with open_study(folder) as study:
        assert [(a.patient, a.record) for a in study.predictions.read()] == [("P3", "")]
    code, _, err = command("predict", out, path, "--manifest", folder)
    assert code == 2
    assert "abmil reads no clinical record" in err
    code, _, err = command("explain", out, folder.parent / "x.h5", "--manifest", folder)
    assert code == 2
    assert "has no slide 'x'" in err


def test_what_if_is_no_prediction(command: Command, folder: Path) -> None:
    out, path = _trained(command, folder, "persam-live"), folder / "features" / "s3.h5"
    assert command("whatif", out, path, "--manifest", folder, "--set", "ldh=7")[0] == 0
    with open_study(folder) as study:
        assert study.predictions.read() == ()


def test_one_slide_of_several_is_no_answer_about_the_patient(
    command: Command, folder: Path
) -> None:
    out = _trained(command, folder)
    paths = {name: folder / "features" / f"{name}.h5" for name in ("two", "three")}
    for number, path in enumerate(paths.values(), 3):
        save_bag(path, make_bag(number))
    rows = tuple(SlideRow(name, feature_path=path) for name, path in paths.items())
    with open_study(folder) as study:
        study.add([Patient("PX", rows)], "more")
        model, card = load_checkpoint(out)
        one = predict(model, card, make_bag(3))
        both = predict_patient(model, card, "PX", [make_bag(3), make_bag(4)])
        assert keep_answer(study, one, Subject("PX", "two", "")) == ()
        (kept,) = keep_answer(study, both, Subject("PX", "two", ""))
        assert study.predictions.read() == (kept,)
    assert list(kept.probabilities.values()) == both.probabilities.tolist()
    features = b"".join(make_bag(k).features.numpy().tobytes() for k in (3, 4))
    assert kept.features == hashlib.sha256(features).hexdigest()
    code, _, err = command("explain", out, paths["two"], "--manifest", folder)
    assert code == 0
    assert "prediction not stored: the study stores one per patient, and PX has several" in err


def test_a_study_of_slides_keeps_the_answer_of_each(command: Command, tmp_path: Path) -> None:
    with planted_study(tmp_path / "study", Unit.SLIDE) as study:
        rows = SlideRow("two", tmp_path / "2.svs"), SlideRow("three", tmp_path / "3.svs")
        out = _trained(command, study.folder)
        study.add([Patient("PX", rows, record=record())], "more")
        model, card = load_checkpoint(out)
        both = predict_patient(model, card, "PX", [make_bag(3), make_bag(4)])
        keep_answer(study, both.slides[1], Subject("PX", "three", ""))
        keep_answer(study, both, Subject("PX", "three", ""))
        assert keep_answer(study, both.slides[0], Subject("PX", "", "")) == ()
        kept = {a.slide: list(a.probabilities.values()) for a in study.predictions.read("PX")}
    assert kept == {
        name: one.probabilities.tolist()
        for name, one in zip(("two", "three"), both.slides, strict=True)
    }


def test_survival_is_kept_with_its_risk(command: Command, tmp_path: Path) -> None:
    with planted_study(tmp_path / "study") as study:
        known = [
            Patient(p.name, (), time=1.0 + k, event=k % 2 == 0)
            for k, p in enumerate(study.manifest().patients)
        ]
        study.add(known, "follow-up")
        out = _trained(command, study.folder, "abmil", "--task", "cox", "--time-unit", "months")
        assert command("evaluate", out, study.folder, "--draws", 100)[0] == 0
        kept = study.predictions.latest()["P8"]
    model, card = load_checkpoint(out)
    said = predict(model, card, make_bag(8))
    assert kept.risk == pytest.approx(said.scalars["risk"], abs=1e-6)
    assert kept.words == f"risk {kept.risk:.3g}"
    assert tuple(kept.probabilities) == card.outcomes


def test_a_copy_to_share_has_no_predictions_and_says_so(command: Command, folder: Path) -> None:
    with open_study(folder) as study:
        study.predictions.keep([_answer()])
    removed = command("study", "share", folder, folder.parent / "copy")[1]["removed"]
    assert "1 predictions: what models said of the patients" in removed
    with open_study(folder.parent / "copy") as copy:
        assert copy.predictions.read() == ()


def test_a_study_that_cannot_be_written_keeps_nothing(folder: Path) -> None:
    of_a_later_version(folder)
    with open_study(folder) as study, pytest.raises(StudyError, match="newer"):
        study.predictions.keep([_answer()])
