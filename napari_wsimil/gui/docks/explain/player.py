"""Player: play, pause, step and scrub through a number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSlider, QToolButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QHideEvent

_SPEEDS = (1, 2, 5, 10, 25)  # steps per second


class Player(QWidget):
    """Says which step is shown; `moved` gives it, `waits` tells that a step is still drawn.

    Attributes
    ----------
    waits
        While it is True playing does not go on.
    """

    moved = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.waits = False
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Step shown; drag, or use the arrow keys")
        self.back, self.play, self.forth = (_button(*one) for one in _BUTTONS)
        self.play.setCheckable(True)
        self.speed = QComboBox()
        for speed in _SPEEDS:
            self.speed.addItem(f"{speed} per second", speed)
        self.speed.setCurrentIndex(2)
        self.speed.setToolTip("Playback speed")
        row = QHBoxLayout()
        for part in (self.back, self.play, self.forth):
            row.addWidget(part)
        row.addWidget(self.speed)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider)
        layout.addLayout(row)
        self._clock = QTimer(self)
        self._clock.timeout.connect(self._tick)
        self.slider.valueChanged.connect(self.moved)
        self.back.clicked.connect(lambda: self.go(self.step - 1))
        self.forth.clicked.connect(lambda: self.go(self.step + 1))
        self.play.toggled.connect(self._play)
        self.speed.activated.connect(lambda _: self._play(self.play.isChecked()))

    @property
    def step(self) -> int:
        return int(self.slider.value())

    def set_steps(self, steps: int) -> None:
        """Have so many steps, the last of them shown; nothing plays."""
        self.play.setChecked(False)
        self.slider.blockSignals(True)
        self.slider.setRange(0, steps)
        self.slider.setValue(steps)
        self.slider.blockSignals(False)

    def go(self, step: int) -> None:
        """Show a step, the nearest one there is."""
        self.slider.setValue(step)

    def hideEvent(self, event: QHideEvent) -> None:
        """Pause where nobody sees it, as when the window is closed."""
        self.play.setChecked(False)
        super().hideEvent(event)

    def _play(self, wanted: bool) -> None:
        self.play.setText("❚❚" if wanted else "▶")
        if not wanted:
            self._clock.stop()
            return
        if self.step == self.slider.maximum():
            self.go(0)
        self._clock.start(1000 // self.speed.currentData())

    def _tick(self) -> None:
        if self.waits:
            return
        if self.step >= self.slider.maximum():
            self.play.setChecked(False)
        else:
            self.go(self.step + 1)


_BUTTONS = (
    ("◀❙", "One step back"),
    ("▶", "Play or pause"),
    ("❙▶", "One step forward"),
)


def _button(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    return button
