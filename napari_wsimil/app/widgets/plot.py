"""Plot: a matplotlib canvas in the colors of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.settings import get_settings
from napari.utils.theme import get_theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from qtpy.QtWidgets import QWidget

#: Safe for color-blind readers (Okabe and Ito 2008), without the black and the yellow.
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2")


class Plot(FigureCanvasQTAgg):
    """One or several axes, as high as given.

    Parameters
    ----------
    height
        On screen, in pixels.
    """

    def __init__(self, height: int, parent: QWidget | None = None) -> None:
        super().__init__(Figure(layout="constrained", dpi=90))  # type: ignore[no-untyped-call]
        self.setParent(parent)
        self.setFixedHeight(height)

    def axes(self, rows: int = 1) -> list[Axes]:
        """Return empty axes, one below the other, in the window's present colors."""
        theme = get_theme(get_settings().appearance.theme)
        paper, ink = theme.background.as_hex(), theme.text.as_hex()
        self.figure.clear()
        self.figure.set_facecolor(paper)
        found = [self.figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
        for axes in found:
            axes.set_facecolor(paper)
            axes.tick_params(colors=ink, labelsize=8)
            axes.set_prop_cycle(color=COLORS)
            for side, spine in axes.spines.items():
                spine.set_color(ink)
                spine.set_visible(side in ("left", "bottom"))
            for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
                label.set_color(ink)
                label.set_fontsize(8)
        return found

    def refresh(self) -> None:
        """Draw what has changed, when the window has time."""
        self.draw_idle()  # type: ignore[no-untyped-call]

    @property
    def ink(self) -> str:
        """Return the color of words."""
        ink: str = get_theme(get_settings().appearance.theme).text.as_hex()
        return ink


def legend(axes: Axes, ink: str) -> None:
    """Name the lines of axes, without a frame."""
    axes.legend(fontsize=7, frameon=False, labelcolor=ink, loc="best")
