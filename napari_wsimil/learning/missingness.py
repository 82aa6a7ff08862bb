"""Missingness: who lacks a record, by class and site, and whether that gives the class away."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.learning.metrics import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_wsimil.learning.cases import Case

TELLING_AUC = 0.55  # an AUC from here on is worth a warning …
TELLING_P = 0.01  # … if chance alone gets as far less often than this


@dataclass(frozen=True)
class Row:
    """How many patients of a class and a site have something, and how many lack it."""

    site: str
    label: str
    have: int
    lack: int


@dataclass(frozen=True)
class Missingness:
    """Who lacks something, and what that tells of the class.

    Attributes
    ----------
    name
        What is lacking, as people call it.
    rows
        One per site and class that occur together, sorted.
    auc
        How well the classes are told apart by "has it or not" alone, on the same patients:
        0.5 and above, a mean over the classes as in `metrics`; NaN of a single class.
    p, p_within
        The share of shuffles that reach this AUC: over all patients, and within each site;
        NaN of a single class.
    """

    name: str
    rows: tuple[Row, ...]
    auc: float
    p: float
    p_within: float

    @property
    def warning(self) -> str | None:
        """Return a sentence where missingness alone tells the class, else None.

        That is where `auc` is at least 0.55 and `p` below 0.01.
        """
        if not (self.auc >= TELLING_AUC and self.p < TELLING_P):
            return None
        within = (
            "also within sites"
            if self.p_within < TELLING_P
            else "not within sites, which differ in both"
        )
        return (
            f"whether {self.name} is missing tells the class by itself "
            f"(AUC {self.auc:.2f}, p {self.p:.3f}; {within}): a model that sees what is "
            "missing can use that in place of the patient"
        )


def missingness(
    name: str,
    has: NDArray[np.bool_],
    labels: Sequence[str],
    sites: Sequence[str] | None = None,
    *,
    shuffles: int = 999,
    seed: int = 0,
) -> Missingness:
    """Return the table of missingness by class and site, and how much it tells.

    Parameters
    ----------
    name
        What is lacking, as people call it: "the record", "blood".
    has
        (P,) which patients have it.
    labels, sites
        P names each; one site without a name if None.

    Raises
    ------
    ValueError
        If these are not of the same patients, or of none.
    """
    sites = [""] * len(has) if sites is None else sites
    if not len(has) == len(labels) == len(sites) > 0:
        raise ValueError(
            f"{len(has)} patients, {len(labels)} labels and {len(sites)} sites: "
            "each patient needs one of each"
        )
    targets = np.unique(labels, return_inverse=True)[1]
    where = np.unique(sites, return_inverse=True)[1]
    auc = _auc(has, targets)
    random = np.random.default_rng(seed)
    anywhere = np.zeros_like(where)
    p, p_within = (
        _share([_auc(_shuffled(has, strata, random), targets) for _ in range(shuffles)], auc)
        for strata in (anywhere, where)
    )
    return Missingness(name, _rows(has, labels, sites), auc, p, p_within)


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


def _rows(has: NDArray[np.bool_], labels: Sequence[str], sites: Sequence[str]) -> tuple[Row, ...]:
    counts = Counter(zip(sites, labels, has.tolist(), strict=True))
    cells = sorted({(site, label) for site, label, _ in counts})
    return tuple(Row(*cell, counts[*cell, True], counts[*cell, False]) for cell in cells)


def _auc(has: NDArray[np.bool_], targets: NDArray[np.int64]) -> float:
    """Return the AUC of the classes' shares among those who have it, and who lack it."""
    counts = np.zeros((2, targets.max() + 1))
    np.add.at(counts, (has.astype(int), targets), 1)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    return metrics(targets, shares[has.astype(int)])["auc"]


def _shuffled(
    has: NDArray[np.bool_], strata: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.bool_]:
    order = np.lexsort((random.random(len(has)), strata))
    shuffled = np.empty_like(has)
    shuffled[np.argsort(strata, kind="stable")] = has[order]
    return shuffled


def _share(found: Sequence[float], least: float) -> float:
    if math.isnan(least):
        return math.nan
    return (1 + sum(value >= least for value in found)) / (1 + len(found))
