"""Pace: when something may be done again, given how long it took."""

from __future__ import annotations

import math
import time


class Pace:
    """Keeps what is repeated to a share of the time; a context manager around each turn.

    Parameters
    ----------
    interval
        Shortest time from one turn's start to the next one's, in seconds.
    share
        Largest share of the time that turns should take together, 0–1.
    longest
        Longest time between two turns, in seconds, whatever they take.
    """

    def __init__(self, interval: float, share: float, longest: float = math.inf) -> None:
        self._interval, self._share, self._longest = interval, share, longest
        self._start = self._next = 0.0

    @property
    def due(self) -> bool:
        """Whether the next turn may begin."""
        return time.monotonic() >= self._next

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        spent = time.monotonic() - self._start
        wait = min(max(self._interval, spent / self._share), self._longest)
        self._next = self._start + wait
