"""Plots: a matplotlib canvas in the colors of napari's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtWidgets import QSizePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Told apart by color-blind readers, on dark and on light.
COLORS = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_SMALL = 8  # points


class Plot(FigureCanvasQTAgg):
    """A figure as wide as its dock, drawn anew when the theme changes.

    Parameters
    ----------
    height
        In pixels.
    """

    def __init__(self, height: int) -> None:
        super().__init__(Figure(layout="constrained"))  # type: ignore[no-untyped-call]
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(height)
        get_settings().appearance.events.theme.connect(self._change_theme)

    def refresh(self) -> None:
        """Draw all of it again."""
        self.figure.clear()
        self.figure.set_facecolor(self.theme["background"])
        self.paint()
        self.draw_idle()  # type: ignore[no-untyped-call]

    def paint(self) -> None:
        """Put axes into the empty figure."""
        raise NotImplementedError

    @property
    def theme(self) -> dict[str, str]:
        """Return napari's colors by name."""
        theme = get_theme(get_settings().appearance.theme)
        names = ("background", "foreground", "text", "secondary", "error")
        return {name: getattr(theme, name).as_hex() for name in names}

    def axes(self, place: Any, title: str) -> Axes:
        """Return new axes at a place of the figure, without more ink than they need."""
        colors = self.theme
        axes: Axes = self.figure.add_subplot(place)
        axes.set_facecolor(colors["background"])
        axes.set_title(title, fontsize=_SMALL + 1, color=colors["text"])
        axes.tick_params(labelsize=_SMALL, colors=colors["text"], length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(colors["secondary"])
        return axes

    def legend(self, axes: Axes, columns: int) -> None:
        """Name the lines above axes without a title, if there are any."""
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 0.98),
                borderpad=0.2,
                ncols=columns,
                columnspacing=1.2,
                fontsize=_SMALL,
                frameon=False,
                labelcolor=self.theme["text"],
                handlelength=1.2,
            )

    def _change_theme(self, _: object) -> None:
        if isalive(self):
            self.refresh()
