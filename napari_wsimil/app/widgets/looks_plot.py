"""LooksPlot: the probability of each class against the looks of a trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.app.widgets.plots import COLORS, Plot

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.sasha.trajectory import Trajectory

_HEIGHT, _LEFT, _BELOW = 160, 46, 42


class LooksPlot(Plot):
    """Draws a trajectory, and a line at the look that is shown."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._shown: tuple[Prediction, Trajectory] | None = None
        self._step = 0
        self._now: Line2D | None = None

    def show_looks(self, prediction: Prediction, trajectory: Trajectory) -> None:
        """Draw another trajectory, its end being shown."""
        self._shown, self._step = (prediction, trajectory), len(trajectory.looks)
        self.refresh()

    def show_step(self, step: int) -> None:
        """Move the line."""
        self._step = step
        if self._now is not None:
            self._now.set_xdata([step, step])
            self.draw_idle()  # type: ignore[no-untyped-call]

    def paint(self) -> None:
        """Put axes into the empty figure."""
        self._now = None
        if self._shown is None:
            return
        prediction, trajectory = self._shown
        width, height = self.width() - _LEFT - 8, _HEIGHT - _BELOW - 8
        axes, ink = self.axes(_LEFT, 6, width, height), self.theme["text"]
        chances = trajectory.probabilities.numpy().T
        for name, line, color in zip(prediction.card.outcomes, chances, _colors(), strict=False):
            axes.plot(line, label=name, color=color, linewidth=1.5)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("looks", fontsize=8, color=ink)
        axes.set_ylabel("probability", fontsize=8, color=ink)
        self._now = axes.axvline(self._step, color=ink, linewidth=0.8)
        axes.legend(fontsize=7, frameon=False, labelcolor=ink)


def _colors() -> tuple[str, ...]:
    """Return colors for more outcomes than there are colors to tell apart."""
    return COLORS * 8
