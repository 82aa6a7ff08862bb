"""Report: figures with their goals and the machine they were made on, printed and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Goal:
    """A bound that a figure should keep: at least or at most `bound`."""

    sign: str
    bound: float

    def met(self, value: float) -> bool:
        return value >= self.bound if self.sign == "≥" else value <= self.bound


def at_least(bound: float) -> Goal:
    return Goal("≥", bound)


def at_most(bound: float) -> Goal:
    return Goal("≤", bound)


@dataclass
class Report:
    """Named figures; each is printed as it comes, `save` writes them all.

    Attributes
    ----------
    packages
        Whose versions are told.
    figures
        What was measured, by key.
    """

    packages: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = machine(self.packages)
        print(" · ".join(f"{name} {value}" for name, value in self.machine.items()))

    def add(self, key: str, value: float, note: str, goal: Goal | None = None) -> None:
        """Keep a figure and print it with what it says and whether it meets its goal."""
        self.figures[key] = round(value, 4)
        verdict = ""
        if goal is not None:
            verdict = f"{goal.sign} {goal.bound:g} {'met' if goal.met(value) else 'MISSED'}"
        load = os.getloadavg()[0]
        print(f"{key:26} {value:9.3g}  {verdict:14} {note} (load {load:.1f})", flush=True)

    def save(self, path: Path | None) -> None:
        """Write figures and machine as JSON, if anybody asked for it."""
        if path is not None:
            path.write_text(json.dumps({**self.figures, "machine": self.machine}, indent=2) + "\n")


def machine(packages: tuple[str, ...]) -> dict[str, str | int]:
    """Return what figures are made with."""
    facts: dict[str, str | int] = {
        "platform": platform.platform(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }
    return facts | {name: version(name) for name in packages}
