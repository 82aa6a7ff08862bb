"""Scores that cannot exist: the reason stands in their place, before and after training."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from cohorts import make_bag

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.schema import NO_FIELDS
from napari_wsimil.features.case import FollowUp
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import finish
from napari_wsimil.study.create_study import create_study, open_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import checked_run
from napari_wsimil.training.dataset import cohort_of
from napari_wsimil.training.evaluation import Scores, bounds
from napari_wsimil.training.metrics import intervals
from napari_wsimil.training.missingness import missingness
from napari_wsimil.training.splits import gaps, gaps_of, split_of
from napari_wsimil.training.tasks import Task
from napari_wsimil.training.train import train_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_wsimil.training.train import Trained

    Command = Callable[..., tuple[int, Any, str]]

TRAIN = ("train",) * 6
ONE_CLASS_TEST = (*TRAIN, "validation", "validation", "test", "test", "test")
#: The last three patients, who test, are of one class.
LABELS = ("a", "b") * 4 + ("a",) * 3


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line; gives exit code, stdout (JSON as its content), and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capfd.readouterr()
        code = main(list(map(str, arguments)))
        out, err = capfd.readouterr()
        return code, json.loads(out) if "--json" in arguments and out else out, err

    return run


def cohort_of_labels(
    folder: Path, labels: Sequence[str], splits: Sequence[str], *, times: bool = False
) -> Path:
    """Write a manifest with features; with times, labels are events of 0 and 1."""
    rows = ["patient_id,slide_id,feature_path,split," + ("time,event" if times else "label")]
    for k, (label, split) in enumerate(zip(labels, splits, strict=True)):
        save_bag(folder / f"s{k}.h5", make_bag(k))
        last = f"{k + 1.5},{label}" if times else label
        rows.append(f"p{k},s{k},s{k}.h5,{split},{last}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows))
    return path


def trained_on(cohort: Path, out: Path, **values: object) -> Trained:
    known = {"cohort": cohort, "out": out, "model": "abmil", "threads": 1, "fit": {"epochs": 2}}
    return finish(train_run(checked_run(known | values)))


def test_a_test_set_of_one_class_has_no_scores_but_a_reason(
    tmp_path: Path, command: Command
) -> None:
    cohort, out = cohort_of_labels(tmp_path, LABELS, ONE_CLASS_TEST), tmp_path / "m.safetensors"
    given = ("train", cohort, "-o", out, "--model", "abmil", "--epochs", "2")
    code, shown, err = command(*given, "--json")
    assert code == 0
    before = "all 3 test patients are of class a, none of b: AUC, balanced accuracy and macro-F1"
    assert before in err
    why = "not defined: only class a in the test set (3 patients)"
    for name in ("test auc", "test balanced_accuracy", "test macro_f1"):
        assert shown["metrics"][name] is None
        assert shown["reasons"][name] == why
    _, card = load_checkpoint(out)
    assert card.metrics["test auc"] is None
    assert card.reasons["test auc"] == why
    assert card.parts["test"] == {"a": 3, "b": 0}
    _, printed, _ = command(*given)
    assert f"test auc: {why}" in printed
    assert "nan" not in printed
    assert f"test auc: {why}" in command("info", out)[1]


def test_evaluate_prints_the_reason_and_json_has_null(tmp_path: Path, command: Command) -> None:
    cohort, out = cohort_of_labels(tmp_path, LABELS, ONE_CLASS_TEST), tmp_path / "m.safetensors"
    trained_on(cohort, out)
    code, printed, err = command("evaluate", out, cohort, "--split", "test")
    assert code == 0
    assert "auc: not defined: only class a in the test set (3 patients)" in printed
    assert "all 3 test patients are of class a" in err
    _, shown, _ = command("evaluate", out, cohort, "--split", "test", "--json")
    assert shown["metrics"]["balanced_accuracy"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "only class a in the test set (3 patients)",
    }
    _, shown, _ = command("evaluate", out, cohort, "--split", "train", "--json")
    assert 0 <= shown["metrics"]["auc"]["value"] <= 1
    assert shown["metrics"]["auc"]["low"] is None
    assert "fewer than 10 patients (6)" in shown["metrics"]["auc"]["reason"]


@pytest.mark.parametrize("task", ["classification", "cox"])
def test_training_without_anything_to_learn_is_refused_with_counts(
    tmp_path: Path, command: Command, task: str
) -> None:
    timed = task == "cox"
    labels = ("0" if timed else "a",) * 6 + (("1", "0") if timed else ("b", "a"))
    cohort = cohort_of_labels(tmp_path, labels, (*TRAIN, "validation", "test"), times=timed)
    given = ("--task", task, *(("--time-unit", "days") if timed else ()), "--model", "abmil")
    out = tmp_path / "m.safetensors"
    code, _, err = command("train", cohort, "-o", out, *given)
    assert code == 2
    if timed:
        assert "no event among the 6 training patients" in err
    else:
        assert "all 6 training patients are of class 'a', but training needs two classes" in err
        assert "b: 0 training, 1 validation, 0 test" in err
    assert not out.exists()


def test_a_class_without_training_cases_is_on_the_card_and_warned_of(
    tmp_path: Path, command: Command
) -> None:
    labels = ("a", "b") * 3 + ("c", "a", "b", "c")
    splits = (*TRAIN, "validation", "validation", "test", "test")
    out = tmp_path / "m.safetensors"
    trained = trained_on(cohort_of_labels(tmp_path, labels, splits), out)
    assert trained.card.untrained == ("c",)
    assert "the model was trained on no case of class c" in trained.card.warnings
    assert trained.results is not None
    assert any("no training patients of class c" in note for note in trained.results.notes)
    assert any("no test patients of class a" in note for note in trained.results.notes)
    _, shown, _ = command("info", out, "--json")
    assert "the model was trained on no case of class c" in shown["warnings"]


def test_the_study_keeps_why_a_figure_is_not_defined(tmp_path: Path, command: Command) -> None:
    table = cohort_of_labels(tmp_path, LABELS, ONE_CLASS_TEST)
    study = tmp_path / "study"
    assert command("study", "create", study)[0] == 0
    assert command("study", "import", study, "--table", table, "--keep-names")[0] == 0
    trained_on(study, tmp_path / "m.safetensors")
    with open_study(study) as opened:
        (run,) = opened.runs.read()
    assert run.figures["test auc"] is None
    assert run.reasons["test auc"].startswith("not defined: only class a")
    _, shown, _ = command("study", "show", study, "--runs", "--json")
    assert shown["runs"]["1"]["figures"]["test auc"] is None


def test_figures_of_earlier_runs_that_were_nan_are_not_defined(tmp_path: Path) -> None:
    with create_study(tmp_path / "s", NO_FIELDS) as study:
        study.runs.add("abmil", "ab12", tmp_path / "m.safetensors", {"test auc": math.nan}, (), ())
        assert study.runs.read()[0].figures == {"test auc": None}


def test_cards_of_earlier_versions_with_nan_open(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    trained = trained_on(cohort_of_labels(tmp_path, LABELS, ONE_CLASS_TEST), out)
    fields = json.loads(trained.card.model_dump_json())
    for name in ("reasons", "parts"):
        fields.pop(name)
    old = json.dumps(fields | {"format": 2, "metrics": {"test auc": math.nan}})
    card = type(trained.card).model_validate_json(old)
    assert card.metrics == {"test auc": None}
    assert card.reasons["test auc"].startswith("not defined")
    assert "NaN" not in card.model_dump_json()


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((5, 4), "no interval for fewer than 10 patients (9)"),
        ((9, 1), "no interval for fewer than 2 patients of class b (1)"),
        ((5, 5), ""),
    ],
)
def test_intervals_begin_at_a_stated_number_of_patients(
    counts: tuple[int, int], reason: str
) -> None:
    targets = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
    logits = torch.randn(len(targets), 2, generator=torch.Generator().manual_seed(0))
    names = tuple(f"p{i}" for i in range(len(targets)))
    auc = bounds(Scores(names, targets, logits), 50, classes=("a", "b"))["auc"]
    assert auc.is_defined
    assert (auc.reason, auc.has_bounds) == (reason, not reason)
    twice = [np.repeat(x, 2, axis=0) for x in (targets.numpy(), logits.softmax(1).numpy())]
    persons = [name for name in names for _ in range(2)]
    slides = intervals(*twice, persons=persons, draws=50, names=("class a", "class b"))["auc"]
    assert slides.reason == reason


@pytest.mark.parametrize(
    ("events", "times", "reason"),
    [
        ((False,) * 3, (1.0, 2.0, 3.0), "no event in the test set (3 patients)"),
        ((False, False, True), (1.0, 2.0, 3.0), "no two patients of the test set can be compared"),
    ],
)
def test_a_c_index_without_pairs_is_not_defined(
    events: tuple[bool, ...], times: tuple[float, ...], reason: str
) -> None:
    known = tuple(FollowUp(t, e) for t, e in zip(times, events, strict=True))
    targets = torch.tensor([(one.time, one.event) for one in known])
    scores = Scores(("p0", "p1", "p2"), targets, torch.randn(3, 2), known)
    found = bounds(scores, 20, of="test")["c_index"]
    assert not found.is_defined
    assert found.reason.startswith(reason)


def test_before_start_each_part_that_lacks_a_class_is_named(tmp_path: Path) -> None:
    labels = ("a", "b") * 3 + ("a", "a", "b", "b", "b")
    cohort = cohort_of_labels(tmp_path, labels, ONE_CLASS_TEST)
    run = checked_run({"cohort": cohort, "out": tmp_path / "m.safetensors", "threads": 1})
    manifest = cohort_of(run)
    sentences = gaps_of(run, manifest, split_of(run, manifest))
    assert sentences == (
        "all 2 validation patients are of class a, none of b: the weights are selected by the "
        "loss of this class alone",
        "all 3 test patients are of class b, none of a: AUC, balanced accuracy and macro-F1 "
        "are not defined",
        "3 test patients: no intervals below 10",
    )


def test_without_validation_the_last_weights_are_kept_and_said() -> None:
    parts = {"training": {"a": 5, "b": 5}, "validation": {"a": 0, "b": 0}, "test": {}}
    assert gaps(parts, Task.CLASSIFICATION) == (
        "no validation patients: the weights of the last epoch are kept",
    )


def test_missingness_of_a_single_class_has_no_p() -> None:
    found = missingness("x", np.array([True, False]), ["a", "a"], shuffles=9)
    assert math.isnan(found.auc)
    assert math.isnan(found.p)
