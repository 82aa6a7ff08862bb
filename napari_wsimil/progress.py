"""Progress of long work: generators yield `Progress` and return their result."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """State of long work between two of its steps.

    Parameters
    ----------
    done, total
        Finished and expected units of work; a `total` of 0 means unknown.
    text
        Current activity, a few words for people; empty if the caller has them.
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
    """Yield the progress of `work` under another text; return its result."""
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
    """Run `work` to its end without showing progress; return its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
