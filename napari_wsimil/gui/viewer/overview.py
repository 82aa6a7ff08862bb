"""Overview: the whole slide in a corner of the canvas, where one is on it, and how close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QMenu, QToolButton, QVBoxLayout, QWidget

from napari_wsimil.gui.view_state import UM_AT_ONE, View
from napari_wsimil.gui.viewer.camera import PRESETS
from napari_wsimil.gui.widgets.basic import pixmap
from napari_wsimil.gui.widgets.dock import listen

if TYPE_CHECKING:
    from qtpy.QtGui import QMouseEvent, QPaintEvent, QPixmap

    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.slides.slide import Slide

#: Of the picture on screen, and the distance from the corner, in pixels.
_SIDE, _MARGIN = 120, 10
_FRAME = QColor("#ff5a00")


class Overview(QWidget):
    """Shows a pane's slide whole; a click or drag goes there, the button chooses magnifications.

    Parameters
    ----------
    pane
        Whose view is shown and set.
    parent
        What it lies over, in its lower left corner.
    """

    def __init__(self, pane: Pane, parent: QWidget) -> None:
        super().__init__(parent)
        self._pane = pane
        self.map = _Map(pane)
        self.magnification = QToolButton()
        self.magnification.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.magnification.setMenu(self._menu())
        self.magnification.setMinimumWidth(_SIDE + 60)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.map, alignment=Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.magnification, alignment=Qt.AlignmentFlag.AlignLeft)
        parent.installEventFilter(self)
        listen(self, self._show_slide, pane.slide_state.events.slide)
        listen(self, self._show_view, pane.view_state.events.view)
        self._show_slide(pane.slide)

    def magnify(self, magnification: float) -> None:
        """Let the canvas show what an objective of this magnification shows."""
        view = self._pane.view_state.view
        if view is None or view.um is None:
            return
        share = UM_AT_ONE / magnification / view.um
        self._pane.view_state.wanted = view.moved(view.x, view.y, share)

    def enterEvent(self, event: QEvent) -> None:
        """Tell that the mouse has left the canvas, which does not learn it."""
        super().enterEvent(event)
        self._pane.view_state.cursor = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stay in the corner of what it lies over."""
        if event.type() == QEvent.Type.Resize and isalive(self):
            self._place()
        return False

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        for number, magnification in enumerate(PRESETS, 1):
            words = f"{magnification:g}×   {UM_AT_ONE / magnification:g} µm per pixel"
            action = menu.addAction(f"{words}\tAlt+{number}")
            action.triggered.connect(lambda _=False, m=magnification: self.magnify(m))
        menu.addAction("Whole slide").triggered.connect(self._whole)
        return menu

    def _whole(self) -> None:
        slide = self._pane.slide
        if slide is not None:
            width, height = slide.dimensions
            self._pane.view_state.wanted = View(
                width / 2, height / 2, width * 1.05, height * 1.05, None
            )

    def _show_slide(self, slide: Slide | None) -> None:
        self.setVisible(slide is not None)
        self.map.show_slide(slide)
        self._show_view(self._pane.view_state.view)
        self._place()

    def _show_view(self, view: View | None) -> None:
        if view is None:
            return
        near = view.magnification
        known = "" if near is None else f"{near:.3g}×  ·  {view.um:.3g} µm per pixel"
        self.magnification.setText(known or "pixel size unknown")
        self.magnification.setEnabled(near is not None)
        self.magnification.setToolTip(
            "Magnification: 10× is 1 µm per screen pixel. Click to choose, or press Alt+1 to Alt+6"
            if near is not None
            else "Set the pixel size in the Slide dock first"
        )
        self.map.update()

    def _place(self) -> None:
        self.adjustSize()
        parent = self.parentWidget()
        if parent is not None:
            self.move(_MARGIN, parent.height() - self.height() - _MARGIN)
            self.raise_()


class _Map(QWidget):
    """The slide whole, and a frame where the canvas is."""

    def __init__(self, pane: Pane) -> None:
        super().__init__()
        self._pane = pane
        self._picture: QPixmap | None = None
        self._whole = (1.0, 1.0)  # extent of the picture in level-0 pixels
        self.setToolTip("The whole slide; click or drag to go there")
        self.setCursor(Qt.CursorShape.CrossCursor)

    def show_slide(self, slide: Slide | None) -> None:
        """Show another slide, whose thumbnail is in its cache already."""
        if slide is None:
            self._picture = None
            return
        pixels, downsample = slide.thumbnail(4 * _SIDE)
        self._whole = pixels.shape[1] * downsample, pixels.shape[0] * downsample
        whole = pixmap(pixels)
        size = QSize(_SIDE, _SIDE)
        smooth = Qt.TransformationMode.SmoothTransformation
        self._picture = small = whole.scaled(size, Qt.AspectRatioMode.KeepAspectRatio, smooth)
        self.setFixedSize(small.size())

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw picture, border and frame."""
        if self._picture is None or self._pane.slide is None:
            return
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._picture)
        painter.setPen(QPen(QColor(60, 60, 60), 1))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        frame = self.frame()
        if frame is not None:
            painter.setPen(QPen(_FRAME, 2))
            painter.drawRect(frame)
        painter.end()

    def frame(self) -> QRectF | None:
        """Return what the canvas shows, in pixels of this picture, at least four wide."""
        view, slide = self._pane.view_state.view, self._pane.slide
        if view is None or slide is None:
            return None
        x, y = self._scale()
        frame = QRectF(0, 0, max(4.0, view.width * x), max(4.0, view.height * y))
        frame.moveCenter(QPointF(view.x * x, view.y * y))
        return frame.intersected(QRectF(self.rect()).adjusted(1, 1, -1, -1))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the place that was clicked."""
        self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Follow a drag."""
        self._go(event)

    def _go(self, event: QMouseEvent) -> None:
        view, slide = self._pane.view_state.view, self._pane.slide
        if view is None or slide is None:
            return
        x, y = self._scale()
        place = event.pos()
        self._pane.view_state.wanted = view.moved(place.x() / x, place.y() / y)

    def _scale(self) -> tuple[float, float]:
        """Return picture pixels per level-0 pixel along x and y."""
        width, height = self._whole
        return self.width() / width, self.height() / height
