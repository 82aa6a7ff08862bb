"""Plots: a matplotlib canvas in the colors of napari's theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtWidgets import QSizePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from qtpy.QtGui import QResizeEvent

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
        super().__init__(Figure())  # type: ignore[no-untyped-call]
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

    def axes(self, left: int, top: int, width: int, height: int) -> Axes:
        """Return new axes at a place in pixels from the upper left, with little ink."""
        colors, across, down = self.theme, self.width(), self.height()
        place = (left / across, 1 - (top + height) / down, width / across, height / down)
        axes: Axes = self.figure.add_axes(place)
        axes.set_facecolor(colors["background"])
        axes.tick_params(labelsize=_SMALL, colors=colors["text"], length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(colors["secondary"])
        return axes

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Draw again where the places are others."""
        super().resizeEvent(event)  # type: ignore[no-untyped-call]
        self.refresh()

    def _change_theme(self, _: object) -> None:
        if isalive(self):
            self.refresh()
