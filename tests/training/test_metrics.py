"""Metrics over patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from napari_wsimil.training.metrics import intervals, metrics


def two(scores: list[float]) -> np.ndarray:
    positive = np.array(scores)
    return np.stack([1 - positive, positive], axis=1)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    found = metrics(np.array([0, 0, 1, 1]), two([0.1, 0.6, 0.4, 0.8]))
    assert found["auc"] == 3 / 4


def test_auc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    targets = np.array([0, 0, 1, 2])
    p = np.array([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]])
    # class 0: pairs (.5, .2) against (.3, .1): 3 of 4; class 1: .4 against .2 .5 .3: 2 of 3;
    # class 2: 3 of 3
    assert metrics(targets, p)["auc"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_all_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.permutation(np.arange(60) % 3)
    p = random.dirichlet(np.ones(3), 60).round(1)  # ties
    p /= p.sum(axis=1, keepdims=True)
    found, predicted = metrics(targets, p), p.argmax(axis=1)
    one_hot = np.eye(3)[targets]
    assert found["auc"] == pytest.approx(roc_auc_score(one_hot, p, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(targets, predicted, average="macro"))


def test_balanced_accuracy_counts_each_class_the_same() -> None:
    targets = np.array([0] * 8 + [1] * 2)
    found = metrics(targets, two([0.1] * 8 + [0.1, 0.9]))
    assert found["balanced_accuracy"] == 0.75


def test_f1_is_the_macro_average_not_accuracy() -> None:
    targets = np.array([0] * 8 + [1] * 2)
    found = metrics(targets, two([0.1] * 10))
    assert found["macro_f1"] == pytest.approx((16 / 18 + 0) / 2)


def test_scores_of_a_single_class_are_not_defined() -> None:
    assert all(map(math.isnan, metrics(np.array([1, 1]), two([0.9, 0.2])).values()))


def test_a_class_nobody_has_does_not_count() -> None:
    p = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2]])
    assert metrics(np.array([0, 1]), p) == {"auc": 1, "balanced_accuracy": 1, "macro_f1": 1}


def test_intervals_hold_the_value_and_narrow_with_more_patients() -> None:
    random = np.random.default_rng(0)

    def widths(patients: int) -> float:
        targets = np.arange(patients) % 2
        scores = 1 / (1 + np.exp(-(targets - 0.5 + random.normal(size=patients))))
        found = intervals(targets, two(list(scores)), draws=200)["auc"]
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert widths(400) < widths(40) / 2


def test_intervals_are_near_those_known_for_a_proportion() -> None:
    """Recall of 100 + 100 patients, 80 % right: standard error √(.8·.2/200)."""
    targets = np.repeat([0, 1], 100)
    right = np.tile(np.arange(100) < 80, 2)
    scores = np.where(right, targets, 1 - targets).astype(float)
    found = intervals(targets, two(list(scores)), draws=1000)["balanced_accuracy"]
    error = 1.96 * math.sqrt(0.8 * 0.2 / 200)
    assert found.low == pytest.approx(0.8 - error, abs=0.015)
    assert found.high == pytest.approx(0.8 + error, abs=0.015)


def test_intervals_repeat_with_their_seed() -> None:
    targets = np.arange(20) % 2
    p = two(list(np.random.default_rng(1).random(20)))
    assert intervals(targets, p, draws=50) == intervals(targets, p, draws=50)
    assert intervals(targets, p, draws=50) != intervals(targets, p, draws=50, seed=1)


def test_every_draw_has_every_class() -> None:
    targets = np.array([0] * 30 + [1] * 2)
    found = intervals(targets, two([0.1] * 30 + [0.9] * 2), draws=100)
    assert found["auc"].low == 1


@pytest.mark.parametrize(
    ("targets", "scores", "said"),
    [
        ([0, 1], [0.1], r"\(2,\) and \(1, 2\)"),
        ([], [], "at least one patient"),
        ([0, 2], [0.1, 0.2], "0 to 1, not 2"),
        ([0, 1], [0.1, math.nan], "not finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    targets: list[int], scores: list[float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        metrics(np.array(targets, dtype=np.int64), two(scores))
