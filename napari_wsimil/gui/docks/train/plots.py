"""Curves: how a training goes, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from napari_wsimil.gui.widgets.background import Throttle
from napari_wsimil.gui.widgets.plots import COLORS, Plot
from napari_wsimil.workflows.progress import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from napari_wsimil.training.fit import Epoch

    Numbers = Callable[[Epoch], dict[str, float]]

    from napari_wsimil.training.evaluation import Results

# in pixels: axes, what is left of and below them, a row and a letter of names, what is free
_HEIGHT, _LEFT, _FEET, _ROW, _LETTER, _GAP, _BELOW = 100, 52, 44, 16, 6, 6, 4


class Curves(Plot):
    """Terms of the loss, metrics of validation, and what the model tells of itself.

    It is drawn at most three times a second.
    """

    def __init__(self) -> None:
        super().__init__(2 * _HEIGHT)
        self.epochs: list[Epoch] = []
        self._paced = Throttle(self, self.refresh, RateLimiter(0.33, 0.2))

    def start(self) -> None:
        """Forget the epochs of a training before."""
        self.epochs = []
        self.refresh()

    def add(self, epoch: Epoch) -> None:
        """Take the next epoch; it is drawn soon."""
        self.epochs.append(epoch)
        self._paced.request()

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
        stages = [(name, len(list(some))) for name, some in groupby(e.text for e in self.epochs)]
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
        for _, group in groupby(range(len(epochs)), lambda i: epochs[i].text):
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


# in pixels: the figure, a square in it, what is left of it and above it, room for names
_HEIGHT, _SIDE, _LEFT, _TOP, _NAMES = 196, 132, 44, 22, 76

_LETTERS = 12  # of a class's name in a figure


class ConfusionAndRoc(Plot):
    """ROC curves at the left, the confusion matrix at the right."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._results: Results | None = None

    def show_results(self, results: Results) -> None:
        """Draw the results of a classifier; nothing of survival."""
        self._results = results
        self.refresh()

    def paint(self) -> None:
        """Draw both, if there are results."""
        if self._results is None or self._results.confusion is None:
            return
        side = min(_SIDE, self.width() // 2 - _LEFT - 8)
        self._draw_roc(self.axes(_LEFT, _TOP, side, side), self._results)
        left = _LEFT if len(self._results.outcomes) == 2 else _NAMES
        side = min(side, self.width() // 2 - left - 8)
        self._draw_confusion(self.axes(self.width() // 2 + left, _TOP, side, side), self._results)

    def _title(self, axes: Axes, text: str) -> None:
        axes.set_title(text, fontsize=9, color=self.theme["text"])

    def _draw_roc(self, axes: Axes, results: Results) -> None:
        text = self.theme["text"]
        self._title(axes, _roc_title(results))
        axes.plot([0, 1], [0, 1], color=self.theme["secondary"], linewidth=0.8, linestyle="--")
        for curve, color in zip(results.roc, COLORS * len(results.roc), strict=False):
            name = _short(results.outcomes[curve.label])
            axes.plot(curve.false, curve.true, color=color, linewidth=1.6, label=name)
        if not results.roc:
            words = "not defined:\none class alone"
            axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=8, color=text)
        axes.set_aspect("equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("false alarms", fontsize=8, color=text)
        axes.set_ylabel("found", fontsize=8, color=text)
        if len(results.roc) > 1:
            axes.legend(fontsize=7, frameon=False, labelcolor=text, handlelength=1)

    def _draw_confusion(self, axes: Axes, results: Results) -> None:
        self._title(axes, "Confusion")
        table, text = results.confusion, self.theme["text"]
        if table is None:
            return
        names = [_short(name) for name in results.outcomes]
        shares = table / table.sum(axis=1, keepdims=True).clip(1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in ((r, c) for r in range(len(names)) for c in range(len(names))):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=color)
        if len(names) == 2:
            axes.set_xlabel("model", fontsize=8, color=text)
            axes.set_xticks(range(2), names)
            axes.set_yticks(range(2), names, rotation=90, va="center")
            axes.set_ylabel("truth", fontsize=8, color=text)
        else:  # there is no room for the names twice
            axes.set_xticks([])
            axes.set_yticks(range(len(names)), names)
            axes.set_xlabel("model (same order)", fontsize=8, color=text)


def _roc_title(results: Results) -> str:
    one = results.roc[0].label if len(results.roc) == 1 else None
    return "ROC" if one is None else f"ROC of {_short(results.outcomes[one])}"


def _short(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
