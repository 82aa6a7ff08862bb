"""DockedWidget: what our docks have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QFrame,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QShowEvent

    from napari_wsimil.gui.session import Pane

#: What the widest dock needs with its scroll bar, in pixels; nothing is cut off at the right.
_WIDTH = 400
Result = TypeVar("Result")


def while_shown(pane: Pane, take: Callable[[Result], None]) -> Callable[[Result], None]:
    """Return `take`, which does nothing once the pane shows another slide.

    A job that ends late must not lay its result on what is shown by then.
    """
    slide = pane.slide

    def taken(result: Result) -> None:
        if pane.slide is slide:
            take(result)

    return taken


class DockedWidget(QWidget):
    """A widget that lives in a dock; what it puts into `column` scrolls on a low screen.

    `docked` tells the window that it is shown in.
    """

    docked = Signal(QWidget)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        self._area = area = QScrollArea()
        area.setWidget(inside)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(_WIDTH)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def showEvent(self, event: QShowEvent) -> None:
        """Tell where this is shown."""
        super().showEvent(event)
        self.docked.emit(self.window())

    def reveal(self, part: QWidget) -> None:
        """Scroll until a part of this dock is seen."""
        self._area.ensureWidgetVisible(part)

    def come_forward(self) -> None:
        """Show this dock where it shares its place with another."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parentWidget()
        if parent is not None:
            parent.raise_()


def allow(button: QAbstractButton, allowed: bool, why: str, does: str = "") -> None:
    """Enable a button and say what it does, or let its tooltip say why it is not."""
    button.setEnabled(allowed)
    button.setToolTip(does if allowed else why)


def narrow(box: QComboBox) -> None:
    """Let a list of long words be as narrow as its dock."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)
