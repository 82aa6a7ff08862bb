"""Figures of a result: who was taken for what, and what is found at which price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.app.widgets.plots import COLORS, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_wsimil.training.results import Results

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
