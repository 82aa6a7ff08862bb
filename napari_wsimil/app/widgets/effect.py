"""EffectTab: attention or effect? What becomes of the prediction without some patches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_wsimil.app.effects import Effect, curves_job, removal_words, removed_effect, top_patches
from napari_wsimil.app.widgets.docked import allow, narrow, while_shown
from napari_wsimil.app.widgets.effect_plot import EffectPlot
from napari_wsimil.app.widgets.job import JobRow
from napari_wsimil.app.widgets.latest import Latest
from napari_wsimil.app.widgets.tab import Tab
from napari_wsimil.explain.query import patches_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.app.session import Pane
    from napari_wsimil.explain.effect import Curves
    from napari_wsimil.explain.predict import Prediction

_HINT = (
    "A map tells where the model looked. What it did with that is told by asking it again, "
    "from the same features, without those patches."
)
_SOURCE = "removed"


class EffectTab(Tab):
    """Asks a pane's model again without the first patches of the shown map, or an area."""

    name = "Effect"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self.asking, self.job = Latest(self), JobRow()
        self._build()
        self.top.clicked.connect(self._remove_top)
        self.area.clicked.connect(self._remove_area)
        self.draw.clicked.connect(self._draw_curves)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        for event in ("prediction", "area", "display"):
            pane.events[event].connect(self._refresh)
        pane.events.prediction.connect(self._forget)
        self._refresh()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        return (self.job,)

    def _build(self) -> None:
        self.hint = QLabel(_HINT)
        self.hint.setWordWrap(True)
        self.share = QSpinBox()
        self.share.setRange(1, 50)
        self.share.setValue(2)
        self.share.setSuffix(" %")
        self.share.setToolTip("How many of the patches that the shown map ranks first")
        self.top = QPushButton("Without the first")
        self.area = QPushButton("Without the area")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.outcome = QComboBox()
        self.outcome.setToolTip("What the curves are the probability of")
        narrow(self.outcome)
        self.draw = QPushButton("Deletion and insertion")
        self.plot = EffectPlot()
        self.plot.hide()
        first, second = QHBoxLayout(), QHBoxLayout()
        for part in (self.top, self.share, self.area):
            first.addWidget(part)
        second.addWidget(self.draw)
        second.addWidget(self.outcome, 1)
        self.column.addWidget(self.hint)
        self.column.addLayout(first)
        self.column.addWidget(self.words)
        self.column.addLayout(second)
        self.column.addWidget(self.job)
        self.column.addWidget(self.plot)
        self.column.addStretch(1)

    # one removal

    def _remove_top(self) -> None:
        shown = self._pane.shown
        if shown is not None:
            ranking = shown.explanations[self._pane.display.map_index]
            title = f"the first {self.share.value()} % of “{shown.title(ranking)}”"
            self._remove(top_patches(ranking, self.share.value() / 100), title)

    def _remove_area(self) -> None:
        prediction, area = self._pane.prediction, self._pane.area
        if prediction is None or area is None:
            return
        try:
            self._remove(patches_of(prediction, area), "the area")
        except ValueError as error:
            self.words.setText(str(error))

    def _remove(self, patches: Tensor, what: str) -> None:
        prediction, model = self._pane.prediction, self._pane.model
        if prediction is None or model is None:
            return
        self.words.setText("asking")
        self.asking.ask(
            partial(removed_effect, model.model, prediction, patches),
            partial(self._tell, prediction, what),
            self.words.setText,
        )

    def _tell(self, prediction: Prediction, what: str, effect: Effect) -> None:
        if self._pane.prediction is prediction:
            self.words.setText(removal_words(prediction, effect, what))
            self._pane.show_extra(_SOURCE, effect.maps)

    # curves

    def _draw_curves(self) -> None:
        pane = self._pane
        prediction, model, shown = pane.prediction, pane.model, pane.shown
        if prediction is None or model is None or shown is None:
            return
        ranking = shown.explanations[pane.display.map_index]
        job = curves_job(model.model, prediction, ranking, self.outcome.currentIndex())
        self.job.run(job, while_shown(pane, self._plot))

    def _plot(self, found: Curves) -> None:
        if found.prediction is self._pane.prediction:
            self.plot.show_curves(found)

    # show

    def _forget(self, prediction: Prediction | None) -> None:
        if not isalive(self):
            return
        self.asking.drop()
        self.words.clear()
        self.plot.hide()
        outcomes = prediction.card.outcomes if prediction is not None else ()
        if list(outcomes) != [self.outcome.itemText(i) for i in range(self.outcome.count())]:
            self.outcome.clear()
            self.outcome.addItems(outcomes)
        if prediction is not None:
            self.outcome.setCurrentIndex(int(prediction.probabilities.argmax()))

    def _refresh(self, _: object = None) -> None:
        if not isalive(self):
            return
        busy, ready = self.job.busy, self._pane.prediction is not None
        allow(self.top, ready, "Run a model first", "Ask again without these patches")
        why = "Drag with Shift on the slide to draw an area first"
        allow(self.area, ready and self._pane.area is not None, why, "Ask again without it")
        tip = "Ask again and again, without ever more patches and with ever more of them alone"
        allow(self.draw, ready and not busy, "The curves are being made", tip)
