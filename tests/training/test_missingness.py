"""Missingness: whether the lack of a record gives the class away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.features.case import Case, FollowUp
from napari_wsimil.training.missingness import missingness, telling


def test_missingness_that_follows_the_class_is_warned_of() -> None:
    labels = ["x"] * 30 + ["y"] * 30
    has = np.array([True] * 27 + [False] * 3 + [False] * 21 + [True] * 9)
    table = missingness("blood", has, labels)
    assert table.auc == pytest.approx(0.8)  # (27 / 30 + 21 / 30) / 2
    assert table.p == 0.001
    assert "blood is missing predicts the class" in table.warning
    assert "site" not in table.warning  # sites are unknown here


def test_missingness_by_chance_is_not_warned_of() -> None:
    random = np.random.default_rng(0)
    labels = list(random.choice(["x", "y", "z"], 90))
    table = missingness("blood", random.random(90) < 0.5, labels)
    assert table.p > 0.01
    assert table.warning is None


@pytest.mark.parametrize("has", [[True] * 6, [False] * 6])
def test_what_nobody_or_everybody_lacks_tells_nothing(has: list[bool]) -> None:
    table = missingness("blood", np.array(has), list("xxyyxy"))
    assert table.auc == 0.5
    assert table.warning is None


def test_a_single_class_cannot_be_told() -> None:
    assert missingness("blood", np.array([True, False]), ["x", "x"]).warning is None


def test_other_patients_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 patients and 3 labels"):
        missingness("blood", np.array([True, False]), ["x", "y", "x"])


def absent(number: int, target: int, present: tuple[bool, bool] | None) -> Case:
    tokens = (torch.zeros(2), torch.zeros(3))
    record = None if present is None else ClinicalTokens(tokens, torch.tensor(present))
    return Case(f"p{number}", (Bag(torch.zeros(1, 4), clinical=record),), target)


def test_a_group_that_only_one_class_lacks_is_told_by_its_name() -> None:
    cases = [absent(i, i % 2, (i % 3 > 0, i % 2 > 0)) for i in range(60)]
    (sentence,) = telling(("interview", "blood"), cases)
    assert "whether blood is missing predicts the class" in sentence


def test_a_patient_without_tokens_lacks_every_group() -> None:
    cases = [absent(i, i % 2, (True, True) if i % 2 else None) for i in range(60)]
    assert len(telling(("interview", "blood"), cases)) == 2


def test_of_follow_ups_nothing_is_told() -> None:
    assert telling(("a", "b"), [replace(absent(0, 0, None), target=FollowUp(1.0, True))]) == ()
