"""DockedWidget: what our docks have in common."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QFrame, QPushButton, QScrollArea, QVBoxLayout, QWidget


class DockedWidget(QWidget):
    """A widget that lives in a dock; what it puts into `column` scrolls on a low screen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        inside = QWidget()
        self.column = QVBoxLayout(inside)
        area = QScrollArea()
        area.setWidget(inside)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setMinimumWidth(300)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def come_forward(self) -> None:
        """Show this dock where it shares its place with another."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parentWidget()
        if parent is not None:
            parent.raise_()


def allow(button: QPushButton, allowed: bool, why: str, does: str = "") -> None:
    """Enable a button and say what it does, or let its tooltip say why it is not."""
    button.setEnabled(allowed)
    button.setToolTip(does if allowed else why)
