"""Metrics: how well patients were classified or ranked, with intervals over patients."""

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


#: Fewest patients, and fewest of each class, of whom an interval is given. Three patients
#: have ten different redraws and ten have 92,378; the only one of a class is in every redraw.
#: Below that an interval is too narrow, down to the width 0.
LEAST_CASES, LEAST_OF_CLASS = 10, 2


@dataclass(frozen=True)
class Interval:
    """A metric and the bounds within which it lies over resampled patients.

    Attributes
    ----------
    value, low, high
        NaN where they are not defined.
    reason
        Why there is no value, or no bounds; empty if there are.
    """

    value: float
    low: float
    high: float
    reason: str = ""

    @property
    def is_defined(self) -> bool:
        """Whether there is a value."""
        return not np.isnan(self.value)

    @property
    def has_bounds(self) -> bool:
        """Whether there are bounds."""
        return not np.isnan(self.low)


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic: what is found at the price of false alarms.

    Attributes
    ----------
    label
        The class, counted from 0, told from all others.
    false, true
        (K,) shares of the others and of the class whose probability reaches a threshold
        that falls from above 1 to the least there is; both go from 0 to 1.
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
        (P, C) their rows sum to 1; the predicted class is the largest.

    Notes
    -----
    AUC is one class against the rest, averaged over the classes that have patients both
    in and out of them. Balanced accuracy is the mean recall of the classes that occur;
    macro-F1 averages the classes that occur or were predicted. All are NaN, not defined,
    where the patients are of one class.
    """
    _check(targets, probabilities)
    return _metrics(targets, probabilities)


def confusion(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (C, C) how many patients of a class (row) were taken for which (column)."""
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def roc_curves(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[Roc, ...]:
    """Return the curve of each class against the rest that has patients in and out of it.

    Of two classes the second's alone: the first's says the same.
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
    """Return Harrell's c-index: the share of comparable pairs in which the risk is right.

    A pair is comparable where one patient had the event and the other was followed for
    longer, or for as long without it; equal risks count half. NaN where no pair is.
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
    """Return each of `metrics` with its percentile bootstrap interval over patients.

    Patients are drawn with replacement within their class, so that every draw has all
    classes and every metric is defined; of slides, whose patients `persons` are, all of a
    patient are drawn together. `names` of the classes and `undefined` are for reasons, as
    `bootstrap` takes them.
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
    """Return what `statistic` says of all patients, with percentile bootstrap intervals.

    Patients are drawn with replacement within their stratum, of slides within the strata that
    their slides have; draws in which a number is
    NaN are left out of its interval. There is none of fewer than `LEAST_CASES` patients, or
    fewer than `LEAST_OF_CLASS` of a stratum.

    Parameters
    ----------
    strata
        (P,) the stratum of each patient.
    statistic
        Named numbers of the patients at (P,) indices; at other numbers of indices of slides.
    order
        (P,) indices in an order that no row and no name decides; as they come if None.
    persons
        (P,) whose slides these are, which are drawn together; empty if each is a patient.
    names
        Of the strata, for reasons; their numbers if empty.
    undefined
        The reason why a number is NaN.
    """
    order = np.arange(len(strata)) if order is None else order
    values = statistic(order)
    random = np.random.default_rng(seed)
    strata, whose = strata[order], _whose(persons, order)
    few = _too_few(strata, whose, names)
    groups = _groups(strata, whose)
    none = few or all(np.isnan(value) for value in values.values())
    drawn = (_resample(groups, whose, random) for _ in range(0 if none else draws))
    sampled = [statistic(order[index]) for index in drawn]
    tails = (50 * (1 - level), 50 * (1 + level))
    return {
        name: Interval(
            value,
            *_percentiles([draw[name] for draw in sampled], tails),
            (undefined or "not defined") if np.isnan(value) else few,
        )
        for name, value in values.items()
    }


def _whose(persons: Sequence[str], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the person of each case in this order, counted as they come."""
    numbers: dict[str, int] = {}
    if not persons:
        return np.arange(len(order))
    return np.array([numbers.setdefault(persons[i], len(numbers)) for i in order])


def _too_few(strata: NDArray[np.int64], whose: NDArray[np.int64], names: Sequence[str]) -> str:
    """Return why there are no intervals, empty if there are."""
    patients = len(np.unique(whose))
    if patients < LEAST_CASES:
        return f"no interval of fewer than {LEAST_CASES} patients ({patients})"
    for stratum in np.unique(strata).tolist():
        count = len(np.unique(whose[strata == stratum]))
        if count < LEAST_OF_CLASS:
            name = names[stratum] if names else str(stratum)
            return f"no interval of fewer than {LEAST_OF_CLASS} patients of {name} ({count})"
    return ""


def _percentiles(numbers: list[float], tails: tuple[float, float]) -> tuple[float, float]:
    known = [number for number in numbers if not np.isnan(number)]
    if not known:
        return float("nan"), float("nan")
    low, high = np.percentile(known, tails)
    return float(low), float(high)


def _groups(strata: NDArray[np.int64], whose: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the indices of the persons who have the same strata, a group each."""
    of: defaultdict[int, set[int]] = defaultdict(set)
    for person, stratum in zip(whose.tolist(), strata.tolist(), strict=True):
        of[person].add(stratum)
    members: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, person in enumerate(whose.tolist()):
        members[tuple(sorted(of[person]))].append(index)
    return [np.array(members[key], dtype=np.int64) for key in sorted(members)]


def _resample(
    groups: Sequence[NDArray[np.int64]], whose: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    return np.concatenate([_drawn(group, whose[group], random) for group in groups])


def _drawn(
    members: NDArray[np.int64], whose: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return each member as often as the person whose it is was drawn."""
    persons = np.unique(whose)
    times = np.bincount(random.choice(persons, len(persons)), minlength=persons[-1] + 1)
    return np.repeat(members, times[whose])


def _metrics(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    if len(np.unique(targets)) < 2:
        return dict.fromkeys(("auc", "balanced_accuracy", "macro_f1"), float("nan"))
    table = confusion(targets, probabilities)
    right, are, called = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    seen = are + called > 0
    return {
        "auc": _auc(targets, probabilities),
        "balanced_accuracy": float(np.mean(right[are > 0] / are[are > 0])),
        "macro_f1": float(np.mean(2 * right[seen] / (are + called)[seen])),
    }


def _auc(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    members = [targets == c for c in range(probabilities.shape[1])]
    scores = [
        _in_order(probabilities[:, c], of_class)
        for c, of_class in enumerate(members)
        if of_class.any() and not of_class.all()
    ]
    return float(np.mean(scores))


def _in_order(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the share of positive and negative pairs in the right order, ties half."""
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
