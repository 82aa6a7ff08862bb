"""Runs: written down, read again, repeated; what is kept when one does not end."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from cohorts import CLASSES, SPLITS, D, write_folder, write_manifest

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.class_folder import read_folder
from napari_wsimil.models import MODELS
from napari_wsimil.progress import finish
from napari_wsimil.training import dataset as cohort
from napari_wsimil.training.checkpoint import CheckpointError, load_checkpoint
from napari_wsimil.training.config import RunConfig, checked_run, read_run, settings_of, write_run
from napari_wsimil.training.dataset import cohort_of
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import Epoch, FitConfig, TrainingError
from napari_wsimil.training.metrics import confusion, metrics, roc_curves
from napari_wsimil.training.options import check_options, options_of
from napari_wsimil.training.splits import split_of
from napari_wsimil.training.tasks import Outcome, Task
from napari_wsimil.training.train import Prepared, train_run

if TYPE_CHECKING:
    from napari_wsimil.training.train import Trained

QUICK = FitConfig(epochs=3, accumulate=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run on planted bags with a split, not trained yet."""
    return RunConfig(
        cohort=write_manifest(tmp_path, SPLITS),
        out=tmp_path / "model.safetensors",
        model="abmil",
        options={"width": 8},
        fit=QUICK,
        threads=1,
    )


def changed(config: RunConfig, **fields: Any) -> RunConfig:
    return RunConfig.model_validate(dict(config) | fields)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors*")}


# written down


def test_a_run_comes_back_as_it_was_written(config: RunConfig, tmp_path: Path) -> None:
    config = changed(config, fit=replace(QUICK, lr=0.1 + 0.2, patience=4), fold=2)
    write_run(tmp_path / "run.json", config)
    assert read_run(tmp_path / "run.json") == config
    assert not list(tmp_path.glob("*.part"))


def test_paths_in_a_run_are_relative_to_its_file(tmp_path: Path) -> None:
    values = {"cohort": "c.csv", "out": "/far/m.safetensors", "features": "f", "threads": 1}
    (tmp_path / "run.json").write_text(json.dumps(values))
    found = read_run(tmp_path / "run.json")
    assert found.cohort == tmp_path / "c.csv"
    assert found.features == tmp_path / "f"
    assert found.out == Path("/far/m.safetensors")
    assert found.record_schema is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"out": None}, "out: "),
        ({"threads": 0}, "threads: "),
        ({"thread": 2}, "thread: "),
        ({"fold": 5}, "fold must be 0 to 4, not 5"),
        ({"folds": 2}, "folds: "),
        ({"model": "resnet"}, 'unknown model "resnet"'),
        ({"options": {"depth": 8}}, "abmil has no option 'depth': it takes width=256"),
        ({"options": {"width": 0.5}}, "width must be of the type of 256, not 0.5"),
        ({"options": {"width": "8"}}, "width must be of the type of 256, not '8'"),
        ({"fit": {"epochs": 0}}, "fit: epochs must be at least 1, not 0"),
        ({"fit": {"epoch": 2}}, "fit.epoch: "),
        ({"task": "regression"}, "task: "),
        ({"time_unit": "months"}, "is for survival, not classification"),
        ({"cohort": "bags", "record_schema": "s.toml"}, "record_schema is for a manifest"),
        ({"format": 2}, "format: "),
    ],
)
def test_a_field_that_is_wrong_is_named_in_one_line(
    config: RunConfig, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    stated = json.loads(config.model_dump_json()) | values
    (tmp_path / "run.json").write_text(json.dumps(stated))
    with pytest.raises(ValueError, match=r"run\.json") as found:
        read_run(tmp_path / "run.json")
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "must be a JSON object")])
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_run(tmp_path / "run.json")


# options


def test_every_model_tells_what_may_be_chosen_within_sensible_ranges() -> None:
    for model in MODELS:
        for name, option in {**options_of(model), **settings_of(model)}.items():
            assert option.text, (model, name)
            if isinstance(option.default, int | float):
                assert option.least <= option.default <= option.most, (model, name)


def test_choices_and_ranges_are_read_off_the_docstring() -> None:
    assert options_of("acmil")["stkim"].choices == ("fixed", "bernoulli")
    assert options_of("acmil")["width"].choices == ()
    assert options_of("acmil")["mask_rate"].most == 1
    assert options_of("vib")["temperature"].most == np.inf
    assert options_of("sasha")["negative"].least == -1
    assert (options_of("acmil")["width"].least, options_of("acmil")["mask_rate"].least) == (1, 0)
    assert settings_of("abmil")["schedule"].choices == ("one-cycle", "cosine")
    assert settings_of("vib")["epochs"].default == 16
    assert settings_of("acmil", Task.COX)["accumulate"].default == 16
    assert "AdamW" in settings_of("abmil")["lr"].text


def test_options_are_refused_in_the_words_of_the_model() -> None:
    with pytest.raises(ValueError, match=r"mask_rate 1.0 in \[0, 1\)"):
        check_options("acmil", {"mask_rate": 1.0})
    with pytest.raises(ValueError, match="attention cannot be created with"):
        check_options("attention", {"width": -4})


def test_a_whole_number_may_stand_for_a_number() -> None:
    check_options("sasha", {"tau": 0})
    with pytest.raises(ValueError, match="width"):
        check_options("abmil", {"width": True})


# a folder of bags


def test_a_folder_of_bags_is_a_cohort(tmp_path: Path) -> None:
    write_folder(tmp_path, 4)
    (tmp_path / ".hidden").touch()
    found = read_folder(tmp_path)
    assert [(p.name, p.label) for p in found.patients] == [
        ("p0", "normal"),
        ("p2", "normal"),
        ("p1", "tumor"),
        ("p3", "tumor"),
    ]
    assert found.classes == CLASSES
    assert found.patients[1].slides[0].feature_path == tmp_path / "normal" / "p2.h5"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "is empty: a folder of bags has a subfolder per class"),
        (["a.h5"], "has the file a.h5 beside its classes"),
        (["normal/a.h5", "tumor/note.txt"], "class tumor has note.txt, which is no features file"),
        (["normal/a.h5", "tumor/"], "class tumor has no features file"),
        (["normal/a.h5", "tumor/a.hdf5"], "'a' is in class normal and in tumor"),
    ],
)
def test_a_folder_laid_out_in_another_way_is_refused(
    tmp_path: Path, files: list[str], said: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    with pytest.raises(RecordError, match=said):
        read_folder(tmp_path)


def test_a_folder_of_bags_is_trained_and_split_by_class(tmp_path: Path) -> None:
    config = RunConfig(
        cohort=write_folder(tmp_path / "bags"),
        out=tmp_path / "m.safetensors",
        model="meanpool",
        folds=3,
        fold=1,
        fit=QUICK,
        threads=1,
    )
    fold = split_of(config, cohort_of(config))
    parts = (fold.train, fold.validation, fold.test)
    assert [sum(int(name[1:]) % 2 for name in part) for part in parts] == [2, 2, 2]
    trained: Trained = finish(train_run(config))
    assert trained.results is not None
    assert {one.patient for one in trained.results.patients} == set(fold.test)
    assert trained.card.classes == CLASSES


# trained


def test_the_threads_are_those_of_the_run_and_put_back(config: RunConfig) -> None:
    found: dict[str, Any] = {}

    def drive() -> None:
        torch.set_num_threads(3)
        found["trained"] = finish(train_run(changed(config, threads=2)))
        found["after"] = torch.get_num_threads()

    thread = threading.Thread(target=drive)
    thread.start()
    thread.join()
    assert found["trained"].card.threads == 2
    assert found["after"] == 3


def test_the_same_run_gives_the_same_numbers_on_the_command_line(
    config: RunConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained: Trained = finish(train_run(config))
    write_run(tmp_path / "run.json", changed(config, out=tmp_path / "again.safetensors"))
    torch.set_num_threads(2)
    assert main(["train", "--config", str(tmp_path / "run.json"), "--json"]) == 0
    _, card = load_checkpoint(tmp_path / "again.safetensors")
    assert card.metrics == trained.card.metrics
    assert card.weights == trained.card.weights
    assert json.loads(capfd.readouterr().out)["metrics"] == trained.card.metrics


def test_the_command_line_saves_what_it_runs(tmp_path: Path) -> None:
    manifest, out = write_manifest(tmp_path, SPLITS), tmp_path / "m.safetensors"
    how = ["--model", "abmil", "--option", "width=8", "--epochs", "2", "--threads", "2"]
    saved = tmp_path / "run.json"
    told = ["--save-config", str(saved), "--seed", "3"]
    assert main(["train", str(manifest), "-o", str(out), *how, *told]) == 0
    run = read_run(saved)
    assert (run.cohort, run.out, run.model, run.options) == (manifest, out, "abmil", {"width": 8})
    assert (run.fit.epochs, run.fit.seed, run.threads) == (2, 3, 2)
    assert load_checkpoint(out)[1].threads == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--config", "run.json", "--epochs", "3"],
            "--epochs conflicts with --config: change it in run.json",
        ),
        (
            ["--config", "run.json", "c.csv"],
            "the manifest conflicts with --config: change it in run.json",
        ),
        (["c.csv"], "--out is missing: give it, or a run with --config"),
        (["-o", "m.safetensors"], "the manifest is missing"),
    ],
)
def test_a_run_is_said_once(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_model_and_card_are_told_before_the_first_epoch(config: RunConfig) -> None:
    events = list(train_run(config))
    (at,) = [i for i, event in enumerate(events) if isinstance(event, Prepared)]
    assert not any(isinstance(event, Epoch) for event in events[:at])
    assert events[at].card.encoder_dim == D
    assert events[at].card.classes == CLASSES


def test_epochs_tell_the_mean_of_what_a_model_says_of_itself(config: RunConfig) -> None:
    vib = changed(config, model="vib", options={"width": 8, "keep": 5}, fit=replace(QUICK, lr=0.1))
    work = train_run(vib)
    validation = [p for p in cohort_of(vib).patients if p.split == "validation"]
    for event in work:
        if isinstance(event, Prepared):
            model = event.model
        if isinstance(event, Epoch):
            cases = finish(cohort.read_cases(validation, Outcome(CLASSES), None))
            bags = [bag for case in cases for bag in case.bags]
            with torch.no_grad():
                told = [model.eval()(bag).scalars["mean selection"] for bag in bags]
            assert event.scalars["mean selection"] == pytest.approx(np.mean(told))
            assert event.scalars["kept"] == 5
            assert (event.text, event.total) == ("fit", 3)


# kept


def epochs_until(config: RunConfig, count: int) -> tuple[list[Epoch], Any]:
    """Return the first `count` epochs that were the best so far, and the work, still open."""
    work, found = train_run(config), []
    for event in work:
        if isinstance(event, Epoch) and event.best:
            found.append(event)
        if len(found) == count:
            break
    return found, work


def test_the_best_weights_so_far_survive_a_training_that_is_closed(config: RunConfig) -> None:
    config.out.write_bytes(b"an older model")
    (first, *_), work = epochs_until(config, 1)
    work.close()
    _, card = load_checkpoint(config.out.with_name("model.unfinished.safetensors"))
    assert card.data.endswith("; epoch 1 of 3, training not finished")
    assert card.metrics == {f"validation {n}": v for n, v in first.validation.items()}
    assert config.out.read_bytes() == b"an older model"


def test_kept_weights_are_those_of_their_epoch(config: RunConfig) -> None:
    (best, *_), work = epochs_until(config, 1)
    model, card = load_checkpoint(config.out.with_name("model.unfinished.safetensors"))
    patients = [p for p in cohort_of(config).patients if p.split == "validation"]
    cases = finish(cohort.read_cases(patients, Outcome(card.classes), None))
    assert finish(evaluate(model, cases)).metrics() == best.validation
    work.close()


def test_a_finished_training_leaves_one_checkpoint(config: RunConfig) -> None:
    trained: Trained = finish(train_run(config))
    assert list(bytes_of(config.out.parent)) == ["model.safetensors"]
    assert "not finished" not in trained.card.data
    assert trained.path == config.out


def test_a_disk_that_fills_up_ends_the_run_and_leaves_what_was_kept(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second epoch that is better cannot be written."""
    config = changed(config, fit=replace(QUICK, lr=0.05, epochs=20))
    _, work = epochs_until(config, 1)
    before = bytes_of(config.out.parent)

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match="No space left"):
        list(work)
    assert bytes_of(config.out.parent) == before
    assert list(before) == ["model.unfinished.safetensors"]


def test_features_that_vanish_in_mid_run_leave_what_was_kept(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "IN_MEMORY", 0)
    _, work = epochs_until(config, 1)
    (config.out.parent / "p2.h5").unlink()
    with pytest.raises((OSError, ValueError), match=r"p2\.h5"):
        list(work)
    assert list(bytes_of(config.out.parent)) == ["model.unfinished.safetensors"]


def test_a_loss_that_diverges_at_once_keeps_nothing(config: RunConfig) -> None:
    config = changed(config, fit=replace(QUICK, lr=1e38, accumulate=1))
    with pytest.raises(TrainingError, match="in epoch 1: .*no earlier epoch could be kept"):
        list(train_run(config))
    assert not bytes_of(config.out.parent)


def test_without_test_patients_the_results_are_of_those_who_chose(tmp_path: Path) -> None:
    splits = ("train",) * 8 + ("validation",) * 4
    config = RunConfig(
        cohort=write_manifest(tmp_path, splits),
        out=tmp_path / "m.safetensors",
        model="meanpool",
        fit=QUICK,
        threads=1,
    )
    found = finish(train_run(config))
    assert found.results.of == "validation"
    assert {one.patient for one in found.results.patients} == {
        f"Jane Doe {k}" for k in range(8, 12)
    }
    assert not any(name.startswith("test") for name in found.card.metrics)


def test_where_everybody_trained_there_are_no_results(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ("train",) * 12)
    out = tmp_path / "m.safetensors"
    config = RunConfig(cohort=manifest, out=out, model="meanpool", fit=QUICK, threads=1)
    assert finish(train_run(config)).results is None


def test_results_are_of_the_test_patients_and_say_what_the_card_says(config: RunConfig) -> None:
    trained: Trained = finish(train_run(config))
    results = trained.results
    assert results is not None
    assert results.of == "test"
    for name, interval in results.metrics.items():
        assert trained.card.metrics[f"test {name}"] == interval.value
        assert interval.reason == "no interval for fewer than 10 patients (4)"
    assert [one.patient for one in results.patients] == [f"Jane Doe {k}" for k in range(8, 12)]
    assert [one.truth for one in results.patients] == ["normal", "tumor"] * 2
    table = np.zeros((2, 2), dtype=int)
    for one in results.patients:
        assert one.answer == CLASSES[int(np.argmax(one.chances))]
        assert one.right == (one.answer == one.truth)
        table[CLASSES.index(one.truth), CLASSES.index(one.answer)] += 1
    assert results.confusion is not None
    assert results.confusion.tolist() == table.tolist()
    assert [curve.label for curve in results.roc] == [1]


def test_survival_has_follow_ups_and_risks_in_place_of_classes(tmp_path: Path) -> None:
    lines = write_manifest(tmp_path, SPLITS).read_text().splitlines()
    rows = [lines[0] + ",time,event"]
    rows += [f"{line},{k + 1},{int(k % 3 != 1)}" for k, line in enumerate(lines[1:])]
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    config = RunConfig(
        cohort=tmp_path / "cohort.csv",
        out=tmp_path / "m.safetensors",
        model="abmil",
        task="cox",
        time_unit="months",
        fit=replace(QUICK, accumulate=6),
        threads=1,
    )
    _, work = epochs_until(config, 1)
    kept = load_checkpoint(tmp_path / "m.unfinished.safetensors")[1]
    assert kept.survival is not None
    assert kept.survival.reference != 0
    results = finish(work).results
    assert set(results.metrics) == {"c_index"}
    assert (results.roc, results.confusion) == ((), None)
    assert results.patients[2].truth == "no event until 11 months"
    assert results.patients[0].answer.startswith("risk ")
    assert results.patients[0].right is None


# curves


def test_a_roc_is_what_a_slow_loop_counts() -> None:
    random = np.random.default_rng(3)
    targets = np.arange(30) % 3
    p = random.random((30, 3)).round(1)
    p /= p.sum(axis=1, keepdims=True)
    curves = roc_curves(targets, p)
    assert [curve.label for curve in curves] == [0, 1, 2]
    for curve in curves:
        mine, scores = targets == curve.label, p[:, curve.label]
        points = [(0.0, 0.0)]
        for threshold in sorted(set(scores), reverse=True):
            called = scores >= threshold
            points.append((float(called[~mine].mean()), float(called[mine].mean())))
        np.testing.assert_allclose(np.stack([curve.false, curve.true], axis=1), points)
    areas = [np.trapezoid(curve.true, curve.false) for curve in curves]
    assert metrics(targets, p)["auc"] == pytest.approx(np.mean(areas))
    assert all(a <= b for curve in curves for a, b in pairwise(curve.false))


def test_a_class_with_everybody_or_nobody_has_no_curve() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert [curve.label for curve in roc_curves(np.array([0, 1]), p)] == [0, 1]
    assert roc_curves(np.array([1, 1]), p[:, :2]) == ()


def test_a_confusion_counts_answers_by_class() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert confusion(np.array([0, 1, 1]), p).tolist() == [[1, 0], [1, 1]]


def test_checked_values_name_where_they_came_from() -> None:
    with pytest.raises(ValueError, match="^the form: cohort: Field required$"):
        checked_run({"out": "m.safetensors", "threads": os.cpu_count()}, "the form")
