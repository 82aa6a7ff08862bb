"""Progress of workflows: remarks on the way, and a limit on how often work repeats."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.progress import Result, Work


@dataclass(frozen=True, kw_only=True)
class Remark(Progress):
    """A sentence to show while work goes on.

    Attributes
    ----------
    remark
        The sentence.
    warning
        Whether readers of the result must know it.
    """

    remark: str
    warning: bool = False


def convert(work: Work[Result], change: Callable[[Progress], Progress]) -> Work[Result]:
    """Yield each progress of `work` as changed by a function; return its result."""
    with closing(work):
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            yield change(step)


def sentence(error: Exception) -> str:
    """Return the words of an error in one line, with the file the system refused."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class RateLimiter:
    """Limits repeated work to a share of the time; a context manager around each turn.

    Parameters
    ----------
    interval
        Shortest time from the start of one turn to the start of the next, in seconds.
    share
        Largest share of the time that all turns may take, 0 to 1.
    longest
        Longest time between two turns, in seconds, however long they take.
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
