"""Strip: the patches looked at last, as pictures in a row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_wsimil.app.widgets.latest import Latest
from napari_wsimil.app.widgets.pictures import pixmap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPixmap

    from napari_wsimil.app.session import Pane
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide

_COUNT, _SIDE, _KEPT = 5, 62, 512


class Strip(QWidget):
    """Shows the last few of some patches, the last at the right; a click goes there."""

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self._pictures: dict[int, QPixmap] = {}
        self._grid: PatchGrid | None = None
        self.reading = Latest(self)
        self.places = [_Picture(pane) for _ in range(_COUNT)]
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for place in self.places:
            row.addWidget(place)
        row.addStretch(1)

    def show_looks(self, patches: list[int]) -> None:
        """Show the last of these patches; pictures not read yet come as they are read."""
        slide, grid = self._pane.slide, self._pane.places
        if slide is None or grid is None:
            return
        if grid is not self._grid:
            self._grid, self._pictures = grid, {}
        shown = patches[-_COUNT:]
        self._lay(patches)
        missing = [patch for patch in shown if patch not in self._pictures]
        if missing:
            self.reading.ask(
                partial(_read, slide, grid, missing), partial(self._keep, patches), self.setToolTip
            )

    def _keep(self, patches: list[int], found: dict[int, NDArray[np.uint8]]) -> None:
        if len(self._pictures) > _KEPT:
            self._pictures.clear()
        self._pictures |= {patch: pixmap(picture) for patch, picture in found.items()}
        if isalive(self):
            self._lay(patches)

    def _lay(self, patches: list[int]) -> None:
        first = max(0, len(patches) - _COUNT)
        shown = list(enumerate(patches[first:], first + 1))
        for place, (number, patch) in zip(self.places, shown, strict=False):
            place.show_patch(patch, number, self._pictures.get(patch))
        for place in self.places[len(shown) :]:
            place.show_patch(None, 0, None)


def _read(slide: Slide, grid: PatchGrid, patches: list[int]) -> dict[int, NDArray[np.uint8]]:
    places = {patch: grid.coords[patch].tolist() for patch in patches}
    return {
        patch: slide.read_patch(x, y, grid.patch_size, _SIDE) for patch, (x, y) in places.items()
    }


class _Picture(QLabel):
    """One patch."""

    def __init__(self, pane: Pane) -> None:
        super().__init__()
        self._pane = pane
        self._patch: int | None = None
        self.setFixedSize(_SIDE, _SIDE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def show_patch(self, patch: int | None, number: int, picture: QPixmap | None) -> None:
        self._patch = patch
        self.setToolTip("" if patch is None else f"look {number}: patch {patch + 1}; click to go")
        if picture is None:
            self.setText("" if patch is None else f"{number}")
        else:
            self.setPixmap(picture)

    def mousePressEvent(self, _: QMouseEvent) -> None:
        """Go to the patch."""
        if self._patch is not None:
            self._pane.focus = None
            self._pane.focus = self._patch
            self._pane.pick(self._patch)
