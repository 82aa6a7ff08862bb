"""Patches: the one that was clicked, and those that a map ranks first, as pictures."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QHBoxLayout, QLabel, QListView, QListWidget, QListWidgetItem, QWidget

from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.explain.statistics import ranks
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.text import values_of
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.basic import pixmap
from napari_wsimil.gui.widgets.dock import Refresher, listen, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.progress import Progress, Work
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.slides.slide import Slide


_CARD_SIDE = 112  # px on screen

_NONE = "Click a patch on the slide to see its picture, its values and their ranks."


class PatchCard(QWidget):
    """Shows the `picked` patch of a pane."""

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self.reading = LatestTask(self)
        self.picture = QLabel()
        self.picture.setFixedSize(_CARD_SIDE, _CARD_SIDE)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.picture.setWordWrap(True)
        self.words = QLabel(_NONE)
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.picture, alignment=Qt.AlignmentFlag.AlignTop)
        layout.addWidget(self.words, 1, alignment=Qt.AlignmentFlag.AlignTop)
        prediction, view = pane.prediction_state.events, pane.view_state.events
        shown = view.picked, prediction.prediction, prediction.extras, view.display
        self._refresher = Refresher(self, self._show, *shown, wait=0)  # a click changes several
        listen(self, self._read, view.picked)
        self._refresher.refresh()

    def _show(self) -> None:
        """Display the values of the picked patch."""
        shown, patch = self._pane.shown, self._pane.view_state.picked
        self.picture.setVisible(patch is not None)
        if shown is None or patch is None:
            self.words.setText(_NONE)
            return
        self.words.setText(values_of(shown, self._pane.display, patch))

    def _read(self, patch: int | None) -> None:
        """Read the picture in the background, from the slide at the size it has on screen."""
        slide, grid = self._pane.slide, self._pane.places
        if patch is None or slide is None or grid is None:
            return
        x, y = grid.coords[patch].tolist()
        self.picture.setText("reading")
        self.reading.run(
            partial(slide.read_patch, x, y, grid.patch_size, 2 * _CARD_SIDE),
            self._show_picture,
            self.picture.setText,
        )

    def _show_picture(self, picture: NDArray[np.uint8]) -> None:
        side = Qt.TransformationMode.SmoothTransformation
        self.picture.setPixmap(pixmap(picture).scaledToWidth(_CARD_SIDE, side))


COUNT = 8

_SIDE = 74  # px on screen

_PAUSE_MS = 250

_CACHE = 32 * 2**20

Picture = tuple[int, str, "NDArray[np.uint8]"]


def pictures_job(slide: Slide, prediction: Prediction, display: Display) -> Work[list[Picture]]:
    """Return patch number, value and picture of the first few patches of the shown map."""
    grid, scale = prediction.bag.grid, scaled(prediction, display.map_index, display.stretch)
    if grid is None:
        return []
    shown = prediction.explanations[display.map_index]
    order = np.argsort(-ranks(shown).numpy(), kind="stable")  # unknown last
    first = order[: min(COUNT, np.count_nonzero(~np.isnan(scale.values)))]
    found: list[Picture] = []
    with _opened(slide) as source:
        for done, patch in enumerate(first.tolist()):
            yield Progress(done, len(first), "reading the first patches")
            x, y = grid.coords[patch].tolist()
            picture = source.read_patch(x, y, grid.patch_size, 2 * _SIDE)
            found.append((patch, f"{scale.values[patch]:.3g}", picture))
    return found


def _opened(slide: Slide) -> AbstractContextManager[Slide]:
    """Return the slide opened once more; a blank one has no file and is taken as it is."""
    if is_blank(slide):
        return nullcontext(slide)
    return open_slide(slide.path, slide.resolution.mpp, _CACHE)


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
        self.setToolTip("Top patches of the map; click one to go there")
        self.itemClicked.connect(self._choose)

    def show_pictures(self, pictures: list[Picture]) -> None:
        self.clear()
        for patch, value, picture in pictures:
            item = QListWidgetItem(QIcon(pixmap(picture)), value)
            item.setData(Qt.ItemDataRole.UserRole, patch)
            item.setToolTip(f"patch {patch + 1}")
            self.addItem(item)

    def _choose(self, item: QListWidgetItem) -> None:
        self.chosen.emit(item.data(Qt.ItemDataRole.UserRole))


class PatchesTab(Tab):
    """The patch that was clicked, and the first patches of the shown map.

    Parameters
    ----------
    pane
        What is shown; `focus` is set by a click on a picture.
    job
        While it runs no pictures are read.
    """

    name = "Patches"

    def __init__(self, pane: Pane, job: JobRow, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self._job = job
        self._of: Prediction | None = None
        self._how: tuple[object, ...] = ()
        self.card = PatchCard(pane)
        self.pictures = JobRow(self, quiet=True)
        self.first = TopPatches()
        self.column.addWidget(self.card)
        self.column.addWidget(QLabel("Top patches of this map"))
        self.column.addWidget(self.first, 1)
        self.first.chosen.connect(self._go)
        prediction, view = pane.prediction_state.events, pane.view_state.events
        shown = prediction.prediction, prediction.extras, view.display
        self._refresher = Refresher(self, self._show, *shown, wait=_PAUSE_MS)
        job.finished.connect(self._refresher.request)
        self.pictures.finished.connect(self._refresher.request)
        self._refresher.refresh()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        return (self.pictures,)

    @property
    def waiting(self) -> bool:
        """Whether pictures are about to be read."""
        return self._refresher.waiting

    def _go(self, patch: int) -> None:
        self._pane.view_state.focus = None
        self._pane.view_state.focus = patch
        self._pane.pick(patch)

    def _show(self) -> None:
        """Read the first patches of the shown map, unless a job or a reading still runs."""
        pane = self._pane
        slide, shown, display = pane.slide, pane.shown, pane.display
        if slide is None or shown is None or shown.bag.grid is None:
            self.first.clear()
            return
        how = (display.map_index, display.stretch)
        if self._job.busy or self.pictures.busy or (shown is self._of and how == self._how):
            return
        self._of, self._how = shown, how
        job = pictures_job(slide, shown, display)
        self.pictures.run(job, while_shown(pane, self.first.show_pictures))
