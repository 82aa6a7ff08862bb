"""StepsTab: the looks of a model that looks step by step, to play and to scrub through."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QWidget

from napari_wsimil.app.widgets.latest import Latest
from napari_wsimil.app.widgets.looks_plot import LooksPlot
from napari_wsimil.app.widgets.player import Player
from napari_wsimil.app.widgets.strip import Strip
from napari_wsimil.app.widgets.tab import Tab
from napari_wsimil.explain.trajectory import Looks, cost_words, look_words, trajectory_of

if TYPE_CHECKING:
    from napari_wsimil.app.session import Pane
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.sasha.trajectory import Trajectory

_SOURCE = "step"


class StepsTab(Tab):
    """Sets how many `looks` a pane shows, and its maps of that step."""

    name = "Steps"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self._looks: Looks | None = None
        self.replaying = Latest(self)
        self.player = Player()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.follow = QCheckBox("Follow")
        self.follow.setToolTip("The canvas goes where the look is")
        self.fine = QCheckBox("Sub-patches")
        self.fine.setToolTip("Attention inside the patches looked at, × uniform within each")
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
        self.follow.toggled.connect(lambda on: setattr(pane, "follows", on))
        self.fine.toggled.connect(lambda on: setattr(pane, "finely", on))
        pane.events.prediction.connect(self._show)
        self._show(pane.prediction)

    @property
    def last(self) -> int | None:
        """Return the patch of the last look that is shown."""
        trajectory, step = trajectory_of(self._pane.prediction), self.player.step
        return trajectory.looks[step - 1].patch if trajectory is not None and step else None

    def fits(self, prediction: Prediction) -> bool:
        return trajectory_of(prediction) is not None

    def _show(self, prediction: Prediction | None) -> None:
        if not isalive(self):
            return
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
        pane.looks = step
        self._tell(trajectory, step)
        if self._looks is None:
            self._looks = Looks(model.model, prediction)
        self.player.waits = True
        self.replaying.ask(
            partial(self._looks.maps, step), partial(self._take, prediction), self._fail
        )

    def _take(self, prediction: Prediction, maps: tuple[Explanation, ...]) -> None:
        self.player.waits = False
        if self._pane.prediction is prediction:
            self._pane.show_extra(_SOURCE, maps, first=_SOURCE not in self._pane.extras)

    def _fail(self, words: str) -> None:
        self.player.waits = False
        self.player.play.setChecked(False)
        self._pane.show_extra(_SOURCE, ())
        self.words.setText(words)

    def _tell(self, trajectory: Trajectory, step: int) -> None:
        self.words.setText(f"{cost_words(trajectory, step)} {look_words(trajectory, step)}")
        self.strip.show_looks(trajectory.order[:step].tolist())
        self.plot.show_step(step)
