"""PatchCard: the patch that was clicked, its picture and what each map says of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_wsimil.app.widgets.latest import Latest
from napari_wsimil.app.widgets.pictures import pixmap
from napari_wsimil.app.words import values_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qtpy.QtGui import QShowEvent

    from napari_wsimil.app.session import Pane

_SIDE = 112  # px on screen
_NONE = "Click a patch on the slide to see its picture, its values and their ranks."


class PatchCard(QWidget):
    """Shows the `picked` patch of a pane."""

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self.reading = Latest(self)
        self.picture = QLabel()
        self.picture.setFixedSize(_SIDE, _SIDE)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setWordWrap(True)
        self.words = QLabel(_NONE)
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.picture, alignment=Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.words, 1, alignment=Qt.AlignmentFlag.AlignTop)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._show)
        for event in ("picked", "prediction", "extras", "display"):
            pane.events[event].connect(self._show_later)
        pane.events.picked.connect(self._read)
        self._show()

    def showEvent(self, event: QShowEvent) -> None:
        """Say what has come while this was not looked at."""
        super().showEvent(event)
        self._show()

    def _show_later(self, _: object) -> None:
        """Show what has changed once all of it has: a click changes several things."""
        if isalive(self):
            self._later.start(0)

    def _show(self) -> None:
        """Say what the maps say, if anybody sees it."""
        if not isalive(self) or not self.isVisibleTo(self.window()):
            return
        shown, patch = self._pane.shown, self._pane.picked
        self.picture.setVisible(patch is not None)
        if shown is None or patch is None:
            self.words.setText(_NONE)
            return
        self.words.setText(values_of(shown, self._pane.display, patch))

    def _read(self, patch: int | None) -> None:
        """Read the picture in the background, from the slide at the size it has on screen."""
        slide, grid = self._pane.slide, self._pane.places
        if not isalive(self) or patch is None or slide is None or grid is None:
            return
        x, y = grid.coords[patch].tolist()
        self.picture.setText("reading")
        self.reading.ask(
            partial(slide.read_patch, x, y, grid.patch_size, 2 * _SIDE),
            self._show_picture,
            self.picture.setText,
        )

    def _show_picture(self, picture: NDArray[np.uint8]) -> None:
        side = Qt.TransformationMode.SmoothTransformation
        self.picture.setPixmap(pixmap(picture).scaledToWidth(_SIDE, side))
