"""Time bins of survival and the c-index of risks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.training.metrics import bootstrap, concordance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.features.case import FollowUp
    from napari_wsimil.training.metrics import Interval

BINS = 4


def time_bins(patients: Sequence[Patient]) -> tuple[float, ...]:
    """Return the upper ends of `BINS` time bins.

    Each bin has about the same number of events. They are quantiles of the event times; the
    last end is the longest time of all patients.

    Raises
    ------
    ValueError
        If there are too few different event times for `BINS` bins.
    """
    known = dict.fromkeys((p.person, p.time, p.event) for p in patients if p.time is not None)
    times = [time for _, time, _ in known if time is not None]
    event_times = [time for _, time, event in known if time is not None and event]
    if len(set(event_times)) < BINS:
        raise ValueError(
            f"{len(set(event_times))} different event times among the training patients "
            f"are too few for {BINS} time bins"
        )
    inner = np.quantile(event_times, np.arange(1, BINS) / BINS).tolist()
    if len({*inner, max(times)}) < BINS:
        raise ValueError(f"the event times are too similar for {BINS} time bins: {inner}")
    return (*inner, max(times))


def c_index(follow_ups: Sequence[FollowUp], risks: Tensor) -> float:
    """Return Harrell's c-index of (P,) risks; NaN without comparable patients."""
    return concordance(*_arrays(follow_ups), risks.double().numpy())


def c_index_interval(
    follow_ups: Sequence[FollowUp],
    risks: Tensor,
    draws: int = 1000,
    persons: Sequence[str] = (),
    undefined: str = "",
) -> dict[str, Interval]:
    """Return "c_index" with its 95 % bootstrap interval over patients.

    Patients with and without the event are drawn separately, so that their numbers are the
    same in each draw. If the cases are slides, `persons` are their patients. `undefined` is
    the reason for an undefined c-index.
    """
    times, events = _arrays(follow_ups)
    numbers = risks.double().numpy()
    return bootstrap(
        events.astype(np.int64),
        lambda i: {"c_index": concordance(times[i], events[i], numbers[i])},
        order=np.lexsort((numbers, times, events)),
        persons=persons,
        draws=draws,
        names=("the patients without the event", "the patients with the event"),
        undefined=undefined,
    )


def _arrays(
    follow_ups: Sequence[FollowUp],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    times = np.array([one.time for one in follow_ups], dtype=np.float64)
    return times, np.array([one.event for one in follow_ups], dtype=bool)
