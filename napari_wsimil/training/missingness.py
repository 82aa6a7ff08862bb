"""Prediction of the class from missing records alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.training.metrics import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_wsimil.features.case import Case

SHUFFLES = 999
TELLING_AUC = 0.55  # smallest AUC for a warning …
TELLING_P = 0.01  # … if its p-value is below this


@dataclass(frozen=True)
class Missingness:
    """Prediction of the class from a missing group alone.

    Attributes
    ----------
    name
        Name of the group for messages.
    auc
        AUC of the classes by presence of the group alone, on the same patients: at least
        0.5, a mean over the classes as in `metrics`; NaN for a single class.
    p
        Share of shuffles that reach this AUC; NaN for a single class.
    """

    name: str
    auc: float
    p: float

    @property
    def warning(self) -> str | None:
        """Warning if missingness alone predicts the class, else None.

        There is a warning if `auc` is at least 0.55 and `p` below 0.01.
        """
        if not (self.auc >= TELLING_AUC and self.p < TELLING_P):
            return None
        return (
            f"whether {self.name} is missing predicts the class by itself "
            f"(AUC {self.auc:.2f}, p {self.p:.3f}): a model can use this "
            "in place of the patient's data"
        )


def missingness(
    name: str, has: NDArray[np.bool_], labels: Sequence[str], shuffles: int = SHUFFLES
) -> Missingness:
    """Measure how a missing group predicts the class.

    Parameters
    ----------
    name
        Name of the group for messages, such as "blood".
    has
        (P,) bool, whether each patient has the group.
    labels
        P names of classes.
    shuffles
        Number of permutations of the patients for `p`.

    Raises
    ------
    ValueError
        If the numbers of patients and labels differ, or are 0.
    """
    if not len(has) == len(labels) > 0:
        raise ValueError(
            f"{len(has)} patients and {len(labels)} labels: each patient needs one label"
        )
    targets = np.unique(labels, return_inverse=True)[1]
    auc = _auc(has, targets)
    random = np.random.default_rng(0)
    shuffled = (has[np.argsort(random.random(len(has)))] for _ in range(shuffles))
    return Missingness(name, auc, _p_value([_auc(one, targets) for one in shuffled], auc))


def telling(groups: Sequence[str], cases: Sequence[Case]) -> tuple[str, ...]:
    """Return warnings on groups that predict the class if missing.

    Patients without tokens lack every group. Cases with follow-ups are ignored.
    """
    known = [case for case in cases if isinstance(case.target, int)]
    if not known:
        return ()
    labels = [str(case.target) for case in known]
    tokens = [case.bags[0].clinical for case in known]
    has = np.array([[False] * len(groups) if t is None else t.present.tolist() for t in tokens])
    tests = (missingness(name, has[:, i], labels) for i, name in enumerate(groups))
    return tuple(test.warning for test in tests if test.warning is not None)


def _auc(has: NDArray[np.bool_], targets: NDArray[np.int64]) -> float:
    """Return the AUC of class frequencies given presence or absence."""
    counts = np.zeros((2, targets.max() + 1))
    np.add.at(counts, (has.astype(int), targets), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    return metrics(targets, shares[has.astype(int)])["auc"]


def _p_value(shuffled: Sequence[float], auc: float) -> float:
    if math.isnan(auc):
        return math.nan
    return (1 + sum(value >= auc for value in shuffled)) / (1 + len(shuffled))
