"""Folds: which patients train, choose and test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedKFold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class FoldRule(StrEnum):
    """Basis of folds and of the order in which cases are learned."""

    NAMES = "names"  # of patients, and the order of rows: runs that state no rule
    SLIDES = "slides"  # the content of their slides, see `identity`


@dataclass(frozen=True)
class Fold:
    """A split of patients, by their names; no patient is in two of the three."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def folds(
    targets: Mapping[str, int], count: int = 5, *, validation: bool = True, seed: int = 0
) -> tuple[Fold, ...]:
    """Return `count` folds of patients, stratified by class; each patient tests once.

    Parameters
    ----------
    targets
        The class of each patient.
    count
        How many folds; each class needs at least as many patients.
    validation
        Whether the next fold's test patients are set aside for choosing the weights,
        which takes at least 3 folds; otherwise all others train.
    seed
        Of the shuffle; the order of `targets` plays no part.
    """
    _check(targets, count, validation)
    patients = sorted(targets)
    labels = np.array([targets[patient] for patient in patients])
    parts = _parts(labels, count, seed)
    return tuple(
        _fold(patients, parts, part, (part + 1) % count if validation else -1)
        for part in range(count)
    )


def _parts(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    parts = np.zeros(len(labels), dtype=np.int64)
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for part, (_, test) in enumerate(splitter.split(labels, labels)):
        parts[test] = part
    return parts


def _fold(patients: list[str], parts: NDArray[np.int64], test: int, validation: int) -> Fold:
    def members(chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(p for p, is_in in zip(patients, chosen, strict=True) if is_in)

    return Fold(
        train=members((parts != test) & (parts != validation)),
        validation=members(parts == validation),
        test=members(parts == test),
    )


def _check(targets: Mapping[str, int], count: int, validation: bool) -> None:
    least = 3 if validation else 2
    if count < least:
        raise ValueError(f"{count} folds are too few: this split needs at least {least}")
    for label, number in sorted(Counter(targets.values()).items()):
        if number < count:
            raise ValueError(
                f"class {label} has {number} patients, {count} folds need at least {count}"
            )
