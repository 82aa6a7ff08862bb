"""NumberEdit: a number typed, or dragged over the range where it is plausible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter
from qtpy.QtWidgets import QLineEdit, QSlider, QStyle, QVBoxLayout, QWidget

from napari_wsimil.clinical.field import Absent

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qtpy.QtGui import QPaintEvent

    from napari_wsimil.clinical.field import Field, Value

#: Positions of the slider, bars of the distribution, and its height in pixels.
_POSITIONS, _BARS, _HEIGHT = 400, 40, 18
#: Ratio of the ends of a range above 0 from which it is laid out by ratios.
_WIDE = 30.0
_SHARE, _NORMAL, _OWN = QColor(130, 150, 170), QColor(0, 158, 115, 70), QColor(230, 159, 0)


class Span:
    """The range that a slider goes over, by differences or, where it is wide, by ratios."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self._ratio = low > 0 and high / low >= _WIDE

    def share(self, value: float) -> float:
        """Return where in the range a value lies, 0 at its lower end and 1 at its upper."""
        return float(self.shares(np.array([value]))[0])

    def shares(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `share` of each value."""
        low, high = self.low, self.high
        if self._ratio:
            values, (low, high) = np.log(np.maximum(values, low)), np.log([low, high])
        return np.clip((values - low) / (high - low), 0, 1)

    def value(self, share: float) -> float:
        """Return the value at a share of the range, as round as the slider can tell apart."""
        if self._ratio:
            exact = self.low * (self.high / self.low) ** share
            step = exact * np.log(self.high / self.low) / _POSITIONS
        else:
            exact = self.low + share * (self.high - self.low)
            step = (self.high - self.low) / _POSITIONS
        digits = max(0, int(np.ceil(-np.log10(step))))
        return float(np.clip(round(exact, digits), self.low, self.high))


def span_of(field: Field, known: NDArray[np.float64]) -> Span:
    """Return the plausible range of a field; where none is stated that of the cohort."""
    if field.plausible is not None:
        return Span(*field.plausible)
    if len(known):
        return Span(float(known.min()), float(known.max()))
    return Span(*(field.hard or (0.0, 1.0)))


class Distribution(QWidget):
    """How the cohort's values lie over a range, with the normal ones and the patient's own."""

    def __init__(self, field: Field, span: Span, known: NDArray[np.float64]) -> None:
        super().__init__()
        counts = np.histogram(span.shares(known), bins=_BARS, range=(0, 1))[0]
        self._heights = counts / max(1, counts.max())
        self._normal = None if field.normal is None else [span.share(end) for end in field.normal]
        self.own: float | None = None
        self.setFixedHeight(_HEIGHT)
        if len(known):
            low, mid, high = np.percentile(known, [5, 50, 95])
            self.setToolTip(
                f"{len(known)} patients of this study: half below {mid:.3g}, "
                f"nine of ten from {low:.3g} to {high:.3g} {field.unit}"
            )

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw bars, a band for the normal range, and a line at the patient's own value."""
        painter = QPainter(self)
        inset = self.style().pixelMetric(QStyle.PixelMetric.PM_SliderLength) / 2
        width, height = self.width() - 2 * inset, self.height()
        if self._normal is not None:
            low, high = self._normal
            painter.fillRect(QRectF(inset + low * width, 0, (high - low) * width, height), _NORMAL)
        for number, tall in enumerate(self._heights):
            left, bar = inset + number * width / _BARS, tall * (height - 1)
            painter.fillRect(QRectF(left, height - bar, width / _BARS - 1, bar), _SHARE)
        if self.own is not None:
            painter.fillRect(QRectF(inset + self.own * width - 1, 0, 2, height), _OWN)
        painter.end()


class NumberEdit(QWidget):
    """Emits the text of a number as it is dragged, or once it is typed; and when it is at rest.

    Parameters
    ----------
    field
        Whose number.
    known
        The cohort's, to be drawn behind the slider.
    """

    edited = Signal(str)
    rested = Signal()

    def __init__(self, field: Field, known: NDArray[np.float64]) -> None:
        super().__init__()
        self._span = span_of(field, known)
        self._field = field
        self.text = QLineEdit()
        self.text.setFixedWidth(84)
        self.text.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.distribution = Distribution(field, self._span, known)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _POSITIONS)
        self.slider.setToolTip(f"{self._span.low:g} to {self._span.high:g} {field.unit}".rstrip())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.distribution)
        column.addWidget(self.slider)
        self.slider.valueChanged.connect(self._slide)
        self.slider.sliderReleased.connect(self.rested)
        self.text.editingFinished.connect(self._type)

    def show_value(self, value: Value, own: Value) -> None:
        """Show a value, and where the patient's own is, without telling anybody."""
        share = self._span.share(value) if isinstance(value, float) else 0.0
        self.slider.blockSignals(True)
        self.slider.setValue(round(share * _POSITIONS))
        self.slider.blockSignals(False)
        self.text.setText("" if isinstance(value, Absent) else self._field.format(value))
        self.text.setPlaceholderText(value.value if isinstance(value, Absent) else "")
        self.distribution.own = self._span.share(own) if isinstance(own, float) else None
        self.distribution.update()

    def _type(self) -> None:
        """Take what was typed once it is whole: "9" on the way to "900" is no value to try."""
        if self.text.isModified():
            self.text.setModified(False)
            self.edited.emit(self.text.text())
            self.rested.emit()

    def _slide(self, position: int) -> None:
        text = f"{self._span.value(position / _POSITIONS):.12g}"
        self.text.setText(text)
        self.edited.emit(text)
        if not self.slider.isSliderDown():  # a key or the wheel
            self.rested.emit()
