"""ReadoutBar: one line with position, patch, value and rank under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QLabel, QMainWindow, QSizePolicy, QWidget

from napari_wsimil.gui.widgets.background import Throttle
from napari_wsimil.gui.widgets.dock import listen
from napari_wsimil.workflows.progress import RateLimiter

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.viewer.readout import Readout

#: Seconds between two changes, their largest share of the window's time, most seconds to wait.
_PACE = (0.02, 0.1, 0.04)
#: Narrowest width in pixels, and its share of a status bar against one part for napari's own.
_NARROWEST, _PARTS = 300, 4
_TIP = "Position, patch, value and rank under the cursor"


class ReadoutBar(QWidget):
    """Shows the read-out in one line, elided where it is too long.

    Its size does not depend on its words: the window is never laid out anew for them.

    Parameters
    ----------
    session
        Whose cursor is read out, whenever anything there changes.
    readout
        Returns the words.
    """

    def __init__(self, session: Session, readout: Readout, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._readout = readout
        self._text = ""
        self._label = QLabel(self)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._throttle = Throttle(self, self._refresh, RateLimiter(*_PACE))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setToolTip(_TIP)
        for pane in session.panes:
            slide, prediction = pane.slide_state.events, pane.prediction_state.events
            view = pane.view_state.events
            listen(self, self._request, slide.slide, slide.tissue, slide.grid)
            listen(self, self._request, prediction.prediction, prediction.extras, prediction.stale)
            listen(self, self._request, view.cursor, view.display, view.side)

    def text(self) -> str:
        """Return the whole read-out, elided or not."""
        return self._text

    def sizeHint(self) -> QSize:
        """Return one line's height, whatever the words."""
        return QSize(_NARROWEST, self._label.fontMetrics().height() + 2)

    def minimumSizeHint(self) -> QSize:
        """Return the narrowest size."""
        return self.sizeHint()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the words the new width."""
        super().resizeEvent(event)
        self._label.setGeometry(self.rect())
        self._elide()

    def _request(self, _: object = None) -> None:
        self._throttle.request()

    def _refresh(self) -> None:
        text = self._readout.text()
        if text != self._text:
            self._text = text
            self._elide()

    def _elide(self) -> None:
        fits = self._label.fontMetrics()
        shown = fits.elidedText(self._text, Qt.TextElideMode.ElideRight, self.width())
        self._label.setText(shown)
        tip = _TIP if shown == self._text else self._text
        if tip != self.toolTip():
            self.setToolTip(tip)


def show_readout(window: QMainWindow, session: Session, readout: Readout) -> ReadoutBar:
    """Return a new read-out in the status bar of a window, beside napari's own text."""
    bar = ReadoutBar(session, readout)
    window.statusBar().addPermanentWidget(bar, _PARTS)
    return bar
