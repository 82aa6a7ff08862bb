"""Metrics of classification and survival, with bootstrap intervals over patients."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


#: Smallest number of patients, and of patients per class, for an interval. Three patients
#: have ten different resamples and ten have 92,378; the only one of a class is in every
#: resample. With fewer patients an interval is too narrow, down to width 0.
LEAST_CASES, LEAST_OF_CLASS = 10, 2


@dataclass(frozen=True)
class Interval:
    """A metric with its bootstrap interval over patients.

    Attributes
    ----------
    value, low, high
        The metric and the bounds of its interval; NaN if undefined.
    reason
        Reason for a missing value or missing bounds; empty if all are defined.
    """

    value: float
    low: float
    high: float
    reason: str = ""

    @property
    def is_defined(self) -> bool:
        """Whether the value is defined."""
        return not np.isnan(self.value)

    @property
    def has_bounds(self) -> bool:
        """Whether the bounds are defined."""
        return not np.isnan(self.low)


@dataclass(frozen=True, eq=False)
class Roc:
    """Receiver operating characteristic of one class against the rest.

    Attributes
    ----------
    label
        The class, counted from 0.
    false, true
        (K,) false and true positive rates at thresholds that decrease from above 1 to the
        smallest probability; both increase from 0 to 1.
    """

    label: int
    false: NDArray[np.float64]
    true: NDArray[np.float64]


def metrics(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return "auc", "balanced_accuracy" and "macro_f1", each 0–1.

    Parameters
    ----------
    targets
        (P,) the class of each patient.
    probabilities
        (P, C), rows sum to 1; the predicted class has the largest probability.

    Notes
    -----
    AUC is one class against the rest, averaged over the classes that have patients both
    inside and outside. Balanced accuracy is the mean recall of the classes that occur;
    macro-F1 averages the classes that occur or were predicted. All are undefined (NaN) if
    all patients have the same class.
    """
    _check(targets, probabilities)
    return _metrics(targets, probabilities)


def confusion(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (C, C) counts, rows true and columns predicted classes."""
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def roc_curves(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[Roc, ...]:
    """Return the ROC curve of each class against the rest.

    A class is omitted if no patient, or every patient, belongs to it. For two classes only
    the curve of the second is returned, as that of the first is equivalent.
    """
    _check(targets, probabilities)
    classes = range(probabilities.shape[1])
    return tuple(
        Roc(c, *roc_curve(targets == c, probabilities[:, c], drop_intermediate=False)[:2])
        for c in (classes if len(classes) > 2 else classes[1:])
        if 0 < (targets == c).sum() < len(targets)
    )


def concordance(
    times: NDArray[np.float64], events: NDArray[np.bool_], risks: NDArray[np.float64]
) -> float:
    """Return Harrell's c-index.

    It is the share of comparable pairs in which the higher risk has the earlier event. A
    pair is comparable if one patient had the event and the other was followed for longer, or
    equally long without the event; equal risks count half. NaN if no pair is comparable.
    """
    if not np.isfinite(risks).all():
        raise ValueError("a patient's risk is not finite: the model has diverged")
    t, r = times[events, None], risks[events, None]  # (E, 1) against (P,)
    comparable = (t < times) | ((t == times) & ~events)
    right = (r > risks) + 0.5 * (r == risks)
    return float(right[comparable].mean()) if comparable.any() else float("nan")


def intervals(
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    persons: Sequence[str] = (),
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    names: Sequence[str] = (),
    undefined: str = "",
) -> dict[str, Interval]:
    """Return `metrics` with percentile bootstrap intervals over patients.

    Patients are drawn with replacement within their class, so that every draw has all
    classes and every metric is defined. If the cases are slides, `persons` are their
    patients, and all slides of a patient are drawn together. `names` of the classes and
    `undefined` are used in reasons, see `bootstrap`.
    """
    _check(targets, probabilities)
    return bootstrap(
        targets,
        lambda i: _metrics(targets[i], probabilities[i]),
        order=np.lexsort((*probabilities.T, targets)),
        persons=persons,
        draws=draws,
        level=level,
        seed=seed,
        names=names,
        undefined=undefined,
    )


def bootstrap(
    strata: NDArray[np.int64],
    statistic: Callable[[NDArray[np.int64]], dict[str, float]],
    *,
    order: NDArray[np.int64] | None = None,
    persons: Sequence[str] = (),
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    names: Sequence[str] = (),
    undefined: str = "",
) -> dict[str, Interval]:
    """Return `statistic` of all patients with percentile bootstrap intervals.

    Patients are drawn with replacement within their stratum; if the cases are slides, within
    the combination of strata of their slides. Draws with a NaN value are left out of the
    interval. There is no interval for fewer than `LEAST_CASES` patients, or fewer than
    `LEAST_OF_CLASS` in a stratum.

    Parameters
    ----------
    strata
        (P,) the stratum of each patient.
    statistic
        Returns named values of the patients at (P,) indices; for slides the number of
        indices varies.
    order
        (P,) indices in an order independent of rows and names; the given order if None.
    persons
        (P,) patients of the slides, which are drawn together; empty if each case is a patient.
    names
        Names of the strata, used in reasons; their numbers if empty.
    undefined
        Reason for a value of NaN.
    """
    order = np.arange(len(strata)) if order is None else order
    values = statistic(order)
    random = np.random.default_rng(seed)
    strata, owners = strata[order], _person_numbers(persons, order)
    few = _too_few(strata, owners, names)
    groups = _groups(strata, owners)
    none = few or all(np.isnan(value) for value in values.values())
    resamples = (_resample(groups, owners, random) for _ in range(0 if none else draws))
    statistics = [statistic(order[index]) for index in resamples]
    tails = (50 * (1 - level), 50 * (1 + level))
    return {
        name: Interval(
            value,
            *_percentiles([draw[name] for draw in statistics], tails),
            (undefined or "not defined") if np.isnan(value) else few,
        )
        for name, value in values.items()
    }


def _person_numbers(persons: Sequence[str], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each case's person.

    Persons are numbered in order of first occurrence.
    """
    numbers: dict[str, int] = {}
    if not persons:
        return np.arange(len(order))
    return np.array([numbers.setdefault(persons[i], len(numbers)) for i in order])


def _too_few(strata: NDArray[np.int64], owners: NDArray[np.int64], names: Sequence[str]) -> str:
    """Return the reason for missing intervals.

    It is empty if there are enough patients.
    """
    patients = len(np.unique(owners))
    if patients < LEAST_CASES:
        return f"no interval for fewer than {LEAST_CASES} patients ({patients})"
    for stratum in np.unique(strata).tolist():
        count = len(np.unique(owners[strata == stratum]))
        if count < LEAST_OF_CLASS:
            name = names[stratum] if names else str(stratum)
            return f"no interval for fewer than {LEAST_OF_CLASS} patients of {name} ({count})"
    return ""


def _percentiles(numbers: list[float], tails: tuple[float, float]) -> tuple[float, float]:
    known = [number for number in numbers if not np.isnan(number)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.percentile(known, tails)
    return float(low), float(high)


def _groups(strata: NDArray[np.int64], owners: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return case indices grouped by their person's strata."""
    kinds: defaultdict[int, set[int]] = defaultdict(set)
    for person, stratum in zip(owners.tolist(), strata.tolist(), strict=True):
        kinds[person].add(stratum)
    members: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, person in enumerate(owners.tolist()):
        members[tuple(sorted(kinds[person]))].append(index)
    return [np.array(members[key], dtype=np.int64) for key in sorted(members)]


def _resample(
    groups: Sequence[NDArray[np.int64]], owners: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    return np.concatenate([_resample_group(group, owners[group], random) for group in groups])


def _resample_group(
    members: NDArray[np.int64], owners: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw persons with replacement; return their members, repeated as drawn."""
    persons = np.unique(owners)
    times = np.bincount(random.choice(persons, len(persons)), minlength=persons[-1] + 1)
    return np.repeat(members, times[owners])


def _metrics(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    if len(np.unique(targets)) < 2:
        return dict.fromkeys(("auc", "balanced_accuracy", "macro_f1"), float("nan"))
    table = confusion(targets, probabilities)
    correct, actual, predicted = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    present = actual + predicted > 0
    return {
        "auc": _auc(targets, probabilities),
        "balanced_accuracy": float(np.mean(correct[actual > 0] / actual[actual > 0])),
        "macro_f1": float(np.mean(2 * correct[present] / (actual + predicted)[present])),
    }


def _auc(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    members = [targets == c for c in range(probabilities.shape[1])]
    scores = [
        _binary_auc(probabilities[:, c], of_class)
        for c, of_class in enumerate(members)
        if of_class.any() and not of_class.all()
    ]
    return float(np.mean(scores))


def _binary_auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the share of correctly ordered positive-negative pairs, ties half."""
    count = int(positive.sum())
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(scores) - count)))


def _check(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or len(targets) == 0:
        raise ValueError(
            f"targets must be (P,) and probabilities (P, C) of at least one patient, "
            f"not {targets.shape} and {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("a patient's probabilities are not finite: the model has diverged")
    classes = probabilities.shape[1]
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"targets must be 0 to {classes - 1}, not {targets.max()}")
