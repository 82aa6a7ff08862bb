"""EffectPlot: deletion and insertion curves beside patches taken at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.app.widgets.plots import COLORS, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_wsimil.explain.occlusion import Curves, Series

_HEIGHT, _LEFT, _BELOW = 220, 46, 42
_DELETED, _INSERTED = COLORS[3], COLORS[0]


class EffectPlot(Plot):
    """Draws the curves of one map's ranking."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._curves: Curves | None = None

    def show_curves(self, found: Curves) -> None:
        """Draw other curves."""
        self._curves = found
        self.show()
        self.refresh()

    def paint(self) -> None:
        """Put axes into the empty figure."""
        if self._curves is None:
            return
        found, ink = self._curves, self.theme["text"]
        axes = self.axes(_LEFT, 6, self.width() - _LEFT - 8, _HEIGHT - _BELOW - 8)
        n = len(found.prediction.bag)
        _draw(axes, found.deletion, n, _DELETED, "without the first")
        _draw(axes, found.insertion, n, _INSERTED, "the first alone")
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xticks([0, 0.1, 1, 10, 100], labels=["0", "0.1", "1", "10", "100"])
        axes.set_ylim(-0.02, 1.02)
        words = f"% of the patches, by “{found.title}”; band: at random"
        axes.set_xlabel(words, fontsize=8, color=ink)
        axes.set_ylabel(f"probability of {found.outcome}", fontsize=8, color=ink)
        axes.legend(fontsize=7, frameon=False, labelcolor=ink)


def _draw(axes: Axes, series: Series, patches: int, color: str, name: str) -> None:
    """Draw a curve, and the range of as many patches at random as a band."""
    x = 100 * series.patches / patches
    low, high = series.range
    axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
    axes.plot(x, series.mean, color=color, linewidth=0.8, linestyle=":")
    (line,) = axes.plot(x, series.probability, color=color, label=name, linewidth=1.6)
    line.set(marker=".", markersize=3)
