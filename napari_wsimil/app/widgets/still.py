"""Still: words that change often, without the window being laid out anew each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent
    from qtpy.QtWidgets import QLabel


class Still(QWidget):
    """Holds a label, and asks for another height only where its words take more or fewer lines.

    A label in a layout asks for a place at every change of its words, up to the window, which is
    then painted twice.
    """

    def __init__(self, label: QLabel) -> None:
        super().__init__()
        self._label = label
        label.setParent(self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the label the new width."""
        super().resizeEvent(event)
        self._fit()

    def event(self, event: QEvent) -> bool:
        """Look whether the label still fits when its words have changed."""
        if event.type() == QEvent.Type.LayoutRequest:
            self._fit()
        return bool(super().event(event))

    def _fit(self) -> None:
        label, width = self._label, self.width()
        wrapped = label.heightForWidth(width)
        height = wrapped if wrapped >= 0 else label.sizeHint().height()
        label.setGeometry(0, 0, width, height)
        self.setFixedHeight(height)
