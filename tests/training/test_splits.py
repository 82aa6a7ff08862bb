"""Folds of patients."""

from __future__ import annotations

from collections import Counter

import pytest

from napari_wsimil.training.splits import folds

TARGETS = {f"patient {k}": int(k % 4 == 0) for k in range(43)}


def test_every_patient_tests_once_and_is_in_one_part_of_each_fold() -> None:
    found = folds(TARGETS, 5)
    assert len(found) == 5
    assert Counter(p for fold in found for p in fold.test) == Counter(list(TARGETS))
    for fold in found:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == sorted(TARGETS)


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_spread_evenly_over_tests_and_validations(seed: int) -> None:
    for fold in folds(TARGETS, 5, seed=seed):
        for part in (fold.test, fold.validation):
            assert 2 <= sum(TARGETS[p] for p in part) <= 3
            assert 8 <= len(part) <= 9


def test_the_seed_and_not_the_order_decides() -> None:
    backwards = dict(reversed(TARGETS.items()))
    assert folds(TARGETS, 5) == folds(backwards, 5)
    assert folds(TARGETS, 5) != folds(TARGETS, 5, seed=1)


def test_without_validation_all_others_train() -> None:
    for fold in folds(TARGETS, 5, validation=False):
        assert fold.validation == ()
        assert len(fold.train) == len(TARGETS) - len(fold.test)


def test_a_class_too_small_for_the_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="class 1 has 2 patients, 3 folds"):
        folds({"a": 0, "b": 0, "c": 0, "d": 1, "e": 1}, 3)


def test_too_few_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        folds(TARGETS, 2)
    assert len(folds(TARGETS, 2, validation=False)) == 2
