"""StepsTab: the looks of a model that looks step by step, to play and to scrub through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QLabel, QWidget

from napari_wsimil.explain.trajectory import Looks, cost_words, look_words, trajectory_of
from napari_wsimil.gui.docks.explain.player import Player
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.background import LatestTask
from napari_wsimil.gui.widgets.basic import pixmap
from napari_wsimil.gui.widgets.dock import listen
from napari_wsimil.gui.widgets.plots import COLORS, Plot

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from qtpy.QtGui import QMouseEvent, QPixmap

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.trajectory import Trajectory
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
        self.reading = LatestTask(self)
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
            self.reading.run(
                partial(_read, slide, grid, missing), partial(self._keep, patches), self.setToolTip
            )

    def _keep(self, patches: list[int], found: dict[int, NDArray[np.uint8]]) -> None:
        if len(self._pictures) > _KEPT:
            self._pictures.clear()
        self._pictures |= {patch: pixmap(picture) for patch, picture in found.items()}
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
            self._pane.view_state.focus = None
            self._pane.view_state.focus = self._patch
            self._pane.pick(self._patch)


_HEIGHT, _LEFT, _RIGHT, _ABOVE, _BELOW = 160, 46, 8, 6, 42


class LooksPlot(Plot):
    """Draws a trajectory, and a line at the look that is shown."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._shown: tuple[Prediction, Trajectory] | None = None
        self._step = 0
        self._axes: Axes | None = None
        self._mark = QFrame(self)  # moving a line within the figure would draw it all anew
        self._mark.hide()

    def show_looks(self, prediction: Prediction, trajectory: Trajectory) -> None:
        """Draw another trajectory, its end being shown."""
        self._shown, self._step = (prediction, trajectory), len(trajectory.looks)
        self.refresh()

    def show_step(self, step: int) -> None:
        """Move the line."""
        self._step = step
        if self._axes is None:
            return
        left, right = self._axes.get_xlim()
        width = self.width() - _LEFT - _RIGHT
        x = _LEFT + round(width * (step - left) / (right - left))
        self._mark.setGeometry(x, _ABOVE, 1, _HEIGHT - _BELOW - _ABOVE)
        self._mark.setStyleSheet(f"background: {self.theme['text']}")
        self._mark.show()

    def paint(self) -> None:
        """Put axes into the empty figure."""
        self._axes = None
        if self._shown is None:
            return
        prediction, trajectory = self._shown
        width, height = self.width() - _LEFT - _RIGHT, _HEIGHT - _BELOW - _ABOVE
        axes, ink = self.axes(_LEFT, _ABOVE, width, height), self.theme["text"]
        chances = trajectory.probabilities.numpy().T
        for name, line, color in zip(prediction.card.outcomes, chances, _colors(), strict=False):
            axes.plot(line, label=name, color=color, linewidth=1.5)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("looks", fontsize=8, color=ink)
        axes.set_ylabel("probability", fontsize=8, color=ink)
        axes.legend(fontsize=7, frameon=False, labelcolor=ink)
        self._axes = axes
        self.show_step(self._step)


def _colors() -> tuple[str, ...]:
    """Return colors for more outcomes than there are colors to tell apart."""
    return COLORS * 8


_SOURCE = "step"


class StepsTab(Tab):
    """Sets how many `looks` a pane shows, and its maps of that step."""

    name = "Trajectory"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self._looks: Looks | None = None
        self.replaying = LatestTask(self)
        self.player = Player()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.follow = QCheckBox("Follow")
        self.follow.setToolTip("Center the canvas on the patch of each step")
        self.fine = QCheckBox("Sub-patches")
        self.fine.setToolTip(
            "Attention inside the patches read at high resolution, × average within each"
        )
        self.strip = Strip(pane)
        self.plot = LooksPlot()
        boxes = QHBoxLayout()
        boxes.addWidget(self.follow)
        boxes.addWidget(self.fine)
        boxes.addStretch(1)
        for part in (self.player, self.words):
            self.column.addWidget(part)
        self.column.addLayout(boxes)
        self.column.addWidget(self.strip)
        self.column.addWidget(self.plot)
        self.column.addStretch(1)
        self.player.moved.connect(self._move)
        self.follow.toggled.connect(lambda on: setattr(pane.view_state, "follows", on))
        self.fine.toggled.connect(lambda on: setattr(pane.view_state, "finely", on))
        listen(self, self._show, pane.prediction_state.events.prediction)
        self._show(pane.prediction)

    @property
    def last(self) -> int | None:
        """Return the patch of the last look that is shown."""
        trajectory, step = trajectory_of(self._pane.prediction), self.player.step
        return trajectory.looks[step - 1].patch if trajectory is not None and step else None

    def fits(self, prediction: Prediction) -> bool:
        return trajectory_of(prediction) is not None

    def _show(self, prediction: Prediction | None) -> None:
        self.replaying.drop()
        self._looks = None
        self.player.waits = False
        trajectory = trajectory_of(prediction)
        self.player.set_steps(0 if trajectory is None else len(trajectory.looks))
        if trajectory is not None and prediction is not None:
            self.plot.show_looks(prediction, trajectory)
            self._tell(trajectory, self.player.step)

    def _move(self, step: int) -> None:
        """Show a step: the path at once, its maps as soon as they are made."""
        pane = self._pane
        prediction, model = pane.prediction, pane.model
        trajectory = trajectory_of(prediction)
        if trajectory is None or prediction is None or model is None:
            return
        pane.view_state.looks = step
        self._tell(trajectory, step)
        if self._looks is None:
            self._looks = Looks(model.model, prediction)
        self.player.waits = True
        self.replaying.run(
            partial(self._looks.maps, step), partial(self._take, prediction), self._fail
        )

    def _take(self, prediction: Prediction, maps: tuple[Explanation, ...]) -> None:
        self.player.waits = False
        if self._pane.prediction is prediction:
            self._pane.show_extra(
                _SOURCE, maps, first=_SOURCE not in self._pane.prediction_state.extras
            )

    def _fail(self, words: str) -> None:
        self.player.waits = False
        self.player.play.setChecked(False)
        self._pane.show_extra(_SOURCE, ())
        self.words.setText(words)

    def _tell(self, trajectory: Trajectory, step: int) -> None:
        self.words.setText(f"{cost_words(trajectory, step)} {look_words(trajectory, step)}")
        self.strip.show_looks(trajectory.order[:step].tolist())
        self.plot.show_step(step)
