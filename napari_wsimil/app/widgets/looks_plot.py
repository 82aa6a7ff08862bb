"""LooksPlot: the probability of each class against the looks of a trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame

from napari_wsimil.app.widgets.plots import COLORS, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.sasha.trajectory import Trajectory

_HEIGHT, _LEFT, _RIGHT, _ABOVE, _BELOW = 160, 46, 8, 6, 42


class LooksPlot(Plot):
    """Draws a trajectory, and a line at the look that is shown."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._shown: tuple[Prediction, Trajectory] | None = None
        self._step = 0
        self._axes: Axes | None = None
        self._mark = QFrame(self)  # moving a line within the figure would draw it all anew
        self._mark.hide()

    def show_looks(self, prediction: Prediction, trajectory: Trajectory) -> None:
        """Draw another trajectory, its end being shown."""
        self._shown, self._step = (prediction, trajectory), len(trajectory.looks)
        self.refresh()

    def show_step(self, step: int) -> None:
        """Move the line."""
        self._step = step
        if self._axes is None:
            return
        left, right = self._axes.get_xlim()
        width = self.width() - _LEFT - _RIGHT
        x = _LEFT + round(width * (step - left) / (right - left))
        self._mark.setGeometry(x, _ABOVE, 1, _HEIGHT - _BELOW - _ABOVE)
        self._mark.setStyleSheet(f"background: {self.theme['text']}")
        self._mark.show()

    def paint(self) -> None:
        """Put axes into the empty figure."""
        self._axes = None
        if self._shown is None:
            return
        prediction, trajectory = self._shown
        width, height = self.width() - _LEFT - _RIGHT, _HEIGHT - _BELOW - _ABOVE
        axes, ink = self.axes(_LEFT, _ABOVE, width, height), self.theme["text"]
        chances = trajectory.probabilities.numpy().T
        for name, line, color in zip(prediction.card.outcomes, chances, _colors(), strict=False):
            axes.plot(line, label=name, color=color, linewidth=1.5)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("looks", fontsize=8, color=ink)
        axes.set_ylabel("probability", fontsize=8, color=ink)
        axes.legend(fontsize=7, frameon=False, labelcolor=ink)
        self._axes = axes
        self.show_step(self._step)


def _colors() -> tuple[str, ...]:
    """Return colors for more outcomes than there are colors to tell apart."""
    return COLORS * 8
