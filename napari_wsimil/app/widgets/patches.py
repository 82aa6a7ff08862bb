"""TopPatches: the patches that a map ranks first, as pictures; a click flies there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from napari_wsimil.app.work import Step
from napari_wsimil.explain.scale import scaled
from napari_wsimil.space.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.app.session import Display
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.space.slide import Slide

COUNT = 8
_SIDE = 74  # px on screen
_CACHE = 32 * 2**20
Picture = tuple[int, str, "NDArray[np.uint8]"]


def pictures_job(
    slide: Slide, prediction: Prediction, display: Display
) -> Generator[Step, None, list[Picture]]:
    """Return patch number, value and picture of the first few patches of the shown map."""
    grid, scale = prediction.bag.grid, scaled(prediction, display.map_index, display.stretch)
    if grid is None:
        return []
    first = np.argsort(-scale.values, kind="stable")[:COUNT]
    found: list[Picture] = []
    with open_slide(slide.path, slide.resolution.mpp, _CACHE) as source:
        for done, patch in enumerate(first.tolist()):
            yield Step("reading the first patches", done, len(first))
            x, y = grid.coords[patch].tolist()
            picture = source.read_patch(x, y, grid.patch_size, 2 * _SIDE)
            found.append((patch, f"{scale.values[patch]:.3g}", picture))
    return found


class TopPatches(QListWidget):
    """Shows pictures; `chosen` gives the number of the patch that was clicked."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setGridSize(QSize(_SIDE + 8, _SIDE + 22))
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setMinimumHeight(2 * (_SIDE + 24))
        self.setToolTip("Patches that the map ranks first; click one to go there")
        self.itemClicked.connect(self._choose)

    def show_pictures(self, pictures: list[Picture]) -> None:
        self.clear()
        for patch, value, picture in pictures:
            item = QListWidgetItem(QIcon(_pixmap(picture)), value)
            item.setData(Qt.ItemDataRole.UserRole, patch)
            item.setToolTip(f"patch {patch + 1}")
            self.addItem(item)

    def _choose(self, item: QListWidgetItem) -> None:
        self.chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def _pixmap(picture: NDArray[np.uint8]) -> QPixmap:
    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture)
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)
