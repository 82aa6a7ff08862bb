"""Progress of long work.

A long function is a generator: it yields `Progress` between its steps and returns its result.
The caller decides how to run it: a window in a thread with a bar, a command with a printed line,
a script with `finish`, for example `manifest = finish(write_cohort(recipe, folder))`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """State of long work between two steps.

    Parameters
    ----------
    done, total
        Finished and expected units of work; a `total` of 0 means unknown.
    text
        Current activity to display, a few words; empty if the caller supplies it.
    """

    done: int = 0
    total: int = 0
    text: str = ""

    @property
    def share(self) -> float:
        """Finished share of the work, 0 to 1."""
        return self.done / self.total if self.total else 0.0


Work: TypeAlias = Generator[Progress, None, Result]


def relabel(work: Work[Result], text: str) -> Work[Result]:
    """Run `work` with another progress text; return its result."""
    try:
        while True:
            try:
                step = next(work)
            except StopIteration as stop:
                result: Result = stop.value
                return result
            yield replace(step, text=text)
    finally:
        work.close()


def finish(work: Work[Result]) -> Result:
    """Run `work` without displaying progress; return its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
