"""Features that no working encoder gives are counted before training and in evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from cohorts import SPLITS, make_bag, write_manifest

from napari_wsimil.cli.main import main
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.slides.reading import Reading
from napari_wsimil.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, the JSON on stdout, and stderr."""
    torch.set_num_threads(1)

    def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_manifest(tmp_path, SPLITS)


def train(run: Run, cohort: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    quick = ("--model", "abmil", "--epochs", 1, "--threads", 1)
    return run("train", cohort, "-o", cohort.with_name("m.safetensors"), *quick, *options)


def evaluate(run: Run, cohort: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    return run("evaluate", cohort.with_name("m.safetensors"), cohort, "--draws", 100, *options)


def test_training_counts_features_that_no_encoder_gives(run: Run, cohort: Path) -> None:
    zero, equal, scaled = (make_bag(k, 20) for k in (1, 2, 3))
    features = {
        "p1": 0 * zero.features,
        "p2": equal.features[:1].repeat(20, 1),
        "p3": 100 * scaled.features,
    }
    for (name, rows), bag in zip(features.items(), (zero, equal, scaled), strict=True):
        save_bag(cohort.with_name(f"{name}.h5"), replace(bag, features=rows))
    code, _, err = train(run, cohort)
    assert code == 0
    assert "warning: 1 of 12 slides has features that are all 0: " in err
    assert "warning: 1 of 12 slides has equal features in every patch: " in err
    assert "warning: 1 of 12 slides has features far longer or shorter than in other slides" in err
    _, card = load_checkpoint(cohort.with_name("m.safetensors"))
    assert "1 of 12 slides has features that are all 0" in card.data


def test_training_counts_slides_that_may_be_read_differently_now(run: Run, cohort: Path) -> None:
    for k in (1, 2, 3):
        save_bag(cohort.with_name(f"p{k}.h5"), replace(make_bag(k), reading=Reading(1)))
    save_bag(cohort.with_name("p4.h5"), replace(make_bag(4), reading=Reading(1, {"color": 2})))
    code, _, err = train(run, cohort)
    assert code == 0
    assert "warning: 3 of 12 slides: the features were made by an earlier reader" in err
    _, card = load_checkpoint(cohort.with_name("m.safetensors"))
    (note,) = card.notes
    assert note.startswith("1 of 8 slides: the features were made with the earlier color")


def test_info_warns_of_values_and_places_that_cannot_be_right(run: Run, tmp_path: Path) -> None:
    bag, path = make_bag(1), tmp_path / "p1.h5"
    assert bag.grid is not None
    save_bag(path, bag)
    assert run("info", path)[1]["warnings"] == []
    places = bag.grid.coords.copy()
    places[1] = places[0]
    save_bag(path, replace(bag, features=0 * bag.features, grid=replace(bag.grid, coords=places)))
    warnings = "; ".join(run("info", path)[1]["warnings"])
    assert "12 of 12 patches have features that are all 0" in warnings
    assert "1 of 12 patches repeat the coordinates of another" in warnings


def test_evaluation_warns_of_features_far_from_the_trainings(run: Run, cohort: Path) -> None:
    assert train(run, cohort)[0] == 0
    assert "far from those of training" not in evaluate(run, cohort)[2]
    path = cohort.with_name("p10.h5")
    bag = load_bag(path)
    save_bag(path, replace(bag, features=bag.features * 100))
    code, _, err = evaluate(run, cohort)
    assert code == 0
    assert "slides are far from those of training: median length" in err
