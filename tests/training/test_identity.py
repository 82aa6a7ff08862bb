"""Folds and weights hang on the content of slides, not on names or the order of rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from cohorts import CLASSES, make_bag
from sklearn.model_selection import StratifiedKFold

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import SlideRow
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import finish
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.create_study import open_study
from napari_wsimil.synthetic import SlideRecipe, write_phantom
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import checked_run, read_run
from napari_wsimil.training.dataset import cohort_of
from napari_wsimil.training.evaluation import Scores, bounds
from napari_wsimil.training.identity import slide_key
from napari_wsimil.training.splits import split_of
from napari_wsimil.training.train import train_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.models.card import Card

COUNT = 15


def write_cohort(folder: Path, order: Sequence[int], word: str, *, fingerprints: bool) -> Path:
    """Write a cohort of two slides a patient, its rows in an order and its names of a word."""
    folder.mkdir()
    rows = ["patient_id,slide_id,feature_path,label"]
    for k in order:
        for n in (0, 1):
            bag = make_bag(2 * (10 * k + n) + k % 2)
            if fingerprints:
                bag = replace(bag, slide=f"{hash_of(k, n):016x}")
            name = f"{word}{(7 * k) % COUNT}-{n}"
            save_bag(folder / f"{name}.h5", bag)
            rows.append(f"{word}{(7 * k) % COUNT},{name},{name}.h5,{CLASSES[k % 2]}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows))
    return path


def hash_of(k: int, n: int) -> int:
    return int(np.random.default_rng((k, n)).integers(2**63))


def trained(cohort: Path, *given: str) -> tuple[Card, list[set[int]]]:
    """Train from the command line; return the card and the patients by part, as numbers."""
    out = cohort.with_name("m.safetensors")
    config = cohort.with_name("run.json")
    options = ("--model", "abmil", "--epochs", "2", "--folds", "3", "--threads", "1")
    saved = ("--save-config", str(config))
    assert main(["train", str(cohort), "-o", str(out), *options, *saved, *given]) == 0
    run = read_run(config)
    fold = split_of(run, cohort_of(run))
    parts = [{_number(name) for name in part} for part in (fold.train, fold.validation, fold.test)]
    return load_checkpoint(out)[1], parts


def _number(name: str) -> int:
    """Return the patient's number, of whom names have seven times as much."""
    called = int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return next(k for k in range(COUNT) if (7 * k) % COUNT == called)


@pytest.mark.parametrize("fingerprints", [True, False])
def test_new_names_and_another_order_of_rows_change_nothing(
    tmp_path: Path, fingerprints: bool
) -> None:
    first = write_cohort(tmp_path / "one", range(COUNT), "a", fingerprints=fingerprints)
    order = np.random.default_rng(3).permutation(COUNT).tolist()
    second = write_cohort(tmp_path / "two", order, "zz", fingerprints=fingerprints)
    (card, parts), (other, others) = trained(first), trained(second)
    assert parts == others
    assert card.weights == other.weights
    assert card.metrics == other.metrics


def test_another_encoder_of_the_same_slides_has_the_same_folds(tmp_path: Path) -> None:
    first = write_cohort(tmp_path / "one", range(COUNT), "a", fingerprints=True)
    _, parts = trained(first)
    for path in first.parent.glob("*.h5"):
        k, n = (int(part) for part in path.stem.lstrip("a").split("-"))
        number = next(i for i in range(COUNT) if (7 * i) % COUNT == k)
        bag = make_bag(2 * (10 * number + n) + number % 2)
        bag = replace(bag, features=3 * bag.features, encoder="another")
        save_bag(path, replace(bag, slide=f"{hash_of(number, n):016x}"))
    _, others = trained(first)
    assert parts == others


def test_a_run_without_a_rule_keeps_the_names_and_the_order_of_rows(tmp_path: Path) -> None:
    """Its folds are those of scikit-learn on sorted names; written runs name their rule."""
    order = np.random.default_rng(3).permutation(COUNT).tolist()
    cohort = write_cohort(tmp_path / "one", order, "a", fingerprints=True)
    trained(cohort)
    config = cohort.with_name("run.json")
    content = json.loads(config.read_text())
    assert content.pop("fold_rule") == "slides"
    config.write_text(json.dumps(content))
    old = read_run(config)
    assert old.fold_rule == "names"
    fold = split_of(old, cohort_of(old))
    names = sorted({one.name for one in cohort_of(old).patients})
    labels = [_number(name) % 2 for name in names]
    splitter = StratifiedKFold(3, shuffle=True, random_state=0)
    _, test = next(iter(splitter.split(names, labels)))
    assert set(fold.test) == {names[i] for i in test}
    card = finish(train_run(old)).card
    assert main(["train", "--config", str(config)]) == 0
    assert load_checkpoint(old.out)[1].weights == card.weights
    new = finish(train_run(old.model_copy(update={"fold_rule": "slides"})))
    assert new.card.weights != card.weights


def test_pseudonyms_of_a_study_change_nothing(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "one", range(COUNT), "a", fingerprints=True)
    card, _ = trained(cohort)
    study, out = str(tmp_path / "s"), tmp_path / "m.safetensors"
    assert main(["study", "create", study]) == 0
    key = ("--key", str(tmp_path / "key.json"))
    assert main(["study", "import", study, "--table", str(cohort), *key]) == 0
    options = ("--model", "abmil", "--epochs", "2", "--folds", "3", "--threads", "1")
    assert main(["train", study, "-o", str(out), *options]) == 0
    with open_study(study) as opened:
        assert {one.name[0] for one in opened.manifest().patients} == {"P"}
    assert load_checkpoint(out)[1].weights == card.weights


def test_the_key_is_the_fingerprint_that_features_carry_and_the_image_has(
    tmp_path: Path,
) -> None:
    write_phantom_slide(image := tmp_path / "s.tiff")
    with open_slide(image) as slide:
        fingerprint = slide.fingerprint
    path = tmp_path / "s.h5"
    assert slide_key(SlideRow("s", image, path), None) == fingerprint
    save_bag(path, replace(make_bag(1), slide=fingerprint))
    assert slide_key(SlideRow("renamed", None, path), None) == fingerprint
    save_bag(path, make_bag(1))
    first = slide_key(SlideRow("s", None, path), None)
    path.rename(tmp_path / "t.h5")
    assert slide_key(SlideRow("t"), tmp_path) == first
    save_bag(tmp_path / "t.h5", make_bag(2))
    assert slide_key(SlideRow("t"), tmp_path) != first
    with pytest.raises(RecordError, match="no features at"):
        slide_key(SlideRow("nowhere"), tmp_path)


def test_the_file_of_a_slide_is_asked_once_for_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_cohort(tmp_path / "one", range(COUNT), "a", fingerprints=True)
    out = tmp_path / "m.safetensors"
    run = checked_run(
        {"cohort": cohort, "out": out, "threads": 1, "folds": 3, "fold_rule": "slides"}
    )
    calls: list[str] = []
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **known: calls.append(path.name) or stat(path, **known)
    )
    split_of(run, manifest := cohort_of(run))
    calls.clear()
    split_of(run, manifest)
    # whether it is there, and its state
    assert max(map(calls.count, set(calls))) <= 2


def write_phantom_slide(path: Path) -> None:
    finish(write_phantom(path, SlideRecipe(width=512, height=512, mpp=1.0, lesions={})))


def test_a_damaged_features_file_has_a_key_and_is_named_when_it_is_read(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "one", range(COUNT), "a", fingerprints=True)
    (cohort.parent / "a0-0.h5").write_bytes(b"rotten" * 100)
    assert slide_key(SlideRow("a0-0"), cohort.parent)
    run = checked_run(
        {"cohort": cohort, "out": tmp_path / "m.safetensors", "threads": 1, "folds": 3}
        | {"fold_rule": "slides"}
    )
    split_of(run, cohort_of(run))
    with pytest.raises(ValueError, match=r"a0-0\.h5"):
        finish(train_run(run))


def test_intervals_do_not_hang_on_the_order_of_rows() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(30) % 2, 2)
    logits = random.normal(size=(60, 2)) + 0.5 * np.eye(2)[targets]
    persons = [f"p{i // 2}" for i in range(60)]
    found = []
    for order in (np.arange(60), random.permutation(60)):
        scores = Scores(
            tuple(f"s{i}" for i in order),
            torch.from_numpy(targets[order]),
            torch.from_numpy(logits[order]),
            persons=tuple(persons[i] for i in order),
        )
        found.append(bounds(scores, draws=50))
    assert found[0] == found[1]
