"""DockedWidget: what our docks have in common."""

from __future__ import annotations

from qtpy.QtWidgets import QDockWidget, QPushButton, QWidget


class DockedWidget(QWidget):
    """A widget that lives in a dock."""

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
