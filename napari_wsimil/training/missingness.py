"""Missingness: whether the lack of a record gives the class away."""

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
TELLING_AUC = 0.55  # an AUC from here on is worth a warning …
TELLING_P = 0.01  # … if chance alone gets as far less often than this


@dataclass(frozen=True)
class Missingness:
    """How well the lack of a group predicts the class.

    Attributes
    ----------
    name
        What is lacking, as people call it.
    auc
        How well the classes are told apart by "has it or not" alone, on the same patients:
        0.5 and above, a mean over the classes as in `metrics`; NaN of a single class.
    p
        The share of shuffles that reach this AUC; NaN of a single class.
    """

    name: str
    auc: float
    p: float

    @property
    def warning(self) -> str | None:
        """Return a sentence where missingness alone tells the class, else None.

        That is where `auc` is at least 0.55 and `p` below 0.01.
        """
        if not (self.auc >= TELLING_AUC and self.p < TELLING_P):
            return None
        return (
            f"whether {self.name} is missing tells the class by itself "
            f"(AUC {self.auc:.2f}, p {self.p:.3f}): a model that sees what is "
            "missing can use that in place of the patient"
        )


def missingness(
    name: str, has: NDArray[np.bool_], labels: Sequence[str], shuffles: int = SHUFFLES
) -> Missingness:
    """Return how well the lack of a group predicts the class.

    Parameters
    ----------
    name
        What is lacking, as people call it: "the record", "blood".
    has
        (P,) which patients have it.
    labels
        P names of classes.
    shuffles
        Permutations of the patients for `p`.

    Raises
    ------
    ValueError
        If these are not of the same patients, or of none.
    """
    if not len(has) == len(labels) > 0:
        raise ValueError(
            f"{len(has)} patients and {len(labels)} labels: each patient needs one label"
        )
    targets = np.unique(labels, return_inverse=True)[1]
    auc = _auc(has, targets)
    random = np.random.default_rng(0)
    shuffled = (has[np.argsort(random.random(len(has)))] for _ in range(shuffles))
    return Missingness(name, auc, _share([_auc(one, targets) for one in shuffled], auc))


def telling(groups: Sequence[str], cases: Sequence[Case]) -> tuple[str, ...]:
    """Return a warning for each group of the record whose absence tells the class.

    Patients without any tokens lack every group; of follow-ups nothing is said.
    """
    known = [case for case in cases if isinstance(case.target, int)]
    if not known:
        return ()
    labels = [str(case.target) for case in known]
    tokens = [case.bags[0].clinical for case in known]
    has = np.array([[False] * len(groups) if t is None else t.present.tolist() for t in tokens])
    found = (missingness(name, has[:, i], labels) for i, name in enumerate(groups))
    return tuple(one.warning for one in found if one.warning is not None)


def _auc(has: NDArray[np.bool_], targets: NDArray[np.int64]) -> float:
    """Return the AUC of the classes' shares among those who have it, and who lack it."""
    counts = np.zeros((2, targets.max() + 1))
    np.add.at(counts, (has.astype(int), targets), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    return metrics(targets, shares[has.astype(int)])["auc"]


def _share(found: Sequence[float], least: float) -> float:
    if math.isnan(least):
        return math.nan
    return (1 + sum(value >= least for value in found)) / (1 + len(found))
