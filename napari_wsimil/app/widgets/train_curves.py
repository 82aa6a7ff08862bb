"""Curves: how a training goes, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from napari_wsimil.app.widgets.paced import Paced
from napari_wsimil.app.widgets.plots import COLORS, Plot
from napari_wsimil.workflows.progress import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from napari_wsimil.training.fit import Epoch

    Numbers = Callable[[Epoch], dict[str, float]]

# in pixels: axes, what is left of and below them, a row and a letter of names, what is free
_HEIGHT, _LEFT, _FEET, _ROW, _LETTER, _GAP, _BELOW = 100, 52, 44, 16, 6, 6, 4


class Curves(Plot):
    """Terms of the loss, metrics of validation, and what the model tells of itself.

    It is drawn at most three times a second.
    """

    def __init__(self) -> None:
        super().__init__(2 * _HEIGHT)
        self.epochs: list[Epoch] = []
        self._paced = Paced(self, self.refresh, Pace(0.33, 0.2))

    def start(self) -> None:
        """Forget the epochs of a training before."""
        self.epochs = []
        self.refresh()

    def add(self, epoch: Epoch) -> None:
        """Take the next epoch; it is drawn soon."""
        self.epochs.append(epoch)
        self._paced.ask()

    def paint(self) -> None:
        """Draw axes under each other, one for each kind of numbers."""
        top = 0
        panels = [_Panel.of(*panel, self.epochs, self.width()) for panel in _panels(self.epochs)]
        self.setFixedHeight(sum(panel.height for panel in panels) + _BELOW)
        for panel in panels:
            head = _ROW * panel.rows + _GAP
            axes = self.axes(_LEFT, top + head, self.width() - _LEFT - _GAP, _HEIGHT)
            _draw_lines(axes, self.epochs, panel.numbers)
            self._draw_stages(axes, top == 0)
            self._label(axes, panel)
            top += panel.height

    def _label(self, axes: Axes, panel: _Panel) -> None:
        text = self.theme["text"]
        if panel.numbers is _metrics:
            axes.set_ylim(0, 1.02)
        axes.set_xlim(0.5, max(1.5, len(self.epochs) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(panel.title, fontsize=8, color=text)
        axes.set_xlabel("epoch", fontsize=8, color=text, labelpad=1)
        if panel.rows:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 0.98),
                ncols=panel.columns,
                borderpad=0.2,
                columnspacing=1.2,
                handlelength=1.2,
                fontsize=8,
                frameon=False,
                labelcolor=text,
            )

    def _draw_stages(self, axes: Axes, named: bool) -> None:
        """Draw a line where a stage begins, with its name where there are several."""
        start = 1
        stages = [(name, len(list(some))) for name, some in groupby(e.stage for e in self.epochs)]
        for name, count in stages if len(stages) > 1 else ():
            axes.axvline(start - 0.5, color=self.theme["secondary"], linewidth=0.8)
            if named:
                where = (start - 0.4, 0.98)
                transform = axes.get_xaxis_transform()
                axes.text(
                    *where,
                    name,
                    transform=transform,
                    fontsize=7,
                    va="top",
                    color=self.theme["text"],
                )
            start += count


@dataclass(frozen=True)
class _Panel:
    """One of the axes, and how the names of its lines are laid out above it."""

    title: str
    numbers: Numbers
    columns: int
    rows: int

    @classmethod
    def of(cls, title: str, numbers: Numbers, epochs: Sequence[Epoch], across: int) -> _Panel:
        names = dict.fromkeys(name for epoch in epochs for name in numbers(epoch))
        longest = max(map(len, names), default=1)
        columns = max(1, min(3, (across - _LEFT) // (_LETTER * longest + 28)))
        return cls(title, numbers, columns, math.ceil(len(names) / columns))

    @property
    def height(self) -> int:
        return _ROW * self.rows + _HEIGHT + _FEET


def _panels(epochs: Sequence[Epoch]) -> list[tuple[str, Numbers]]:
    """Return title and numbers of each of the axes: shares and counts have one each."""
    panels: list[tuple[str, Numbers]] = [("loss", _losses), ("validation", _metrics)]
    told = {name: value for epoch in epochs for name, value in epoch.scalars.items()}
    if any(abs(value) <= 1 for value in told.values()):
        small = {name for name, value in told.items() if abs(value) <= 1}
        panels.append(("of the model", lambda e: _only(e.scalars, small)))
    if any(abs(value) > 1 for value in told.values()):
        large = {name for name, value in told.items() if abs(value) > 1}
        panels.append(("of the model", lambda e: _only(e.scalars, large)))
    return panels


def _only(numbers: dict[str, float], names: set[str]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name in names}


def _losses(epoch: Epoch) -> dict[str, float]:
    terms = {f"train {n}" if n == "loss" else n: value for n, value in epoch.train.items()}
    if len(epoch.train) == 2 and "loss" in epoch.train:  # a sum of one term is the term
        terms = {"train loss": epoch.train["loss"]}
        terms |= {n: v for n, v in epoch.train.items() if n == "reward"}
    known = epoch.validation.get("loss")
    return terms if known is None else terms | {"validation loss": known}


def _metrics(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in epoch.validation.items() if name != "loss"}


def _draw_lines(axes: Axes, epochs: Sequence[Epoch], numbers: Numbers) -> None:
    """Draw a line for each number, broken between stages; the best epoch is dotted."""
    found = [numbers(epoch) for epoch in epochs]
    names = list(dict.fromkeys(name for one in found for name in one))
    for name, color in zip(names, COLORS * (1 + len(names) // len(COLORS)), strict=False):
        label: str | None = name.replace("_", " ")
        for _, group in groupby(range(len(epochs)), lambda i: epochs[i].stage):
            index = list(group)
            values = [found[i].get(name, math.nan) for i in index]
            if not all(map(math.isnan, values)):
                x = [i + 1 for i in index]
                width = 1.8 if name.endswith("loss") else 1.2
                axes.plot(x, values, color=color, label=label, linewidth=width, marker=".", ms=3)
                label = None
    if names and not axes.lines:
        axes.text(0.5, 0.5, "not defined", ha="center", fontsize=8, transform=axes.transAxes)
    best = [i for i, epoch in enumerate(epochs) if epoch.best and epoch.validation]
    if best and names:
        axes.axvline(best[-1] + 1, color=COLORS[2], linewidth=0.8, linestyle=":")
