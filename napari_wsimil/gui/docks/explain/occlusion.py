"""EffectTab: attention or effect? What becomes of the prediction without some patches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_wsimil.explain.occlusion import without
from napari_wsimil.explain.query import patches_of
from napari_wsimil.gui.docks.explain.tab import Tab
from napari_wsimil.gui.widgets.dock import allow, listen, narrow, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.gui.widgets.plots import COLORS, Plot
from napari_wsimil.workflows.occlusion import (
    Effect,
    curves_job,
    removal_job,
    removal_words,
    top_patches,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from napari_wsimil.explain.occlusion import Curves, Series
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane

_HEIGHT, _LEFT, _BELOW = 220, 46, 42

_DELETED, _INSERTED = COLORS[3], COLORS[0]


class EffectPlot(Plot):
    """Draws the curves of one map's ranking."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT)
        self._curves: Curves | None = None

    def show_curves(self, found: Curves) -> None:
        """Draw other curves."""
        self._curves = found
        self.show()
        self.refresh()

    def paint(self) -> None:
        """Put axes into the empty figure."""
        if self._curves is None:
            return
        found, ink = self._curves, self.theme["text"]
        axes = self.axes(_LEFT, 6, self.width() - _LEFT - 8, _HEIGHT - _BELOW - 8)
        n = len(found.prediction.bag)
        _draw(axes, found.deletion, n, _DELETED, "top patches removed")
        _draw(axes, found.insertion, n, _INSERTED, "top patches only")
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xticks([0, 0.1, 1, 10, 100], labels=["0", "0.1", "1", "10", "100"])
        axes.set_ylim(-0.02, 1.02)
        words = f"% of the patches, by “{found.title}”; band: at random"
        axes.set_xlabel(words, fontsize=8, color=ink)
        axes.set_ylabel(f"probability of {found.outcome}", fontsize=8, color=ink)
        axes.legend(fontsize=7, frameon=False, labelcolor=ink)


def _draw(axes: Axes, series: Series, patches: int, color: str, name: str) -> None:
    """Draw a curve, and the range of as many patches at random as a band."""
    x = 100 * series.patches / patches
    low, high = series.range
    axes.fill_between(x, low, high, color=color, alpha=0.25, linewidth=0)
    axes.plot(x, series.mean, color=color, linewidth=0.8, linestyle=":")
    (line,) = axes.plot(x, series.probability, color=color, label=name, linewidth=1.6)
    line.set(marker=".", markersize=3)


_HINT = (
    "A map tells where the model looked. What it did with that is told by asking it again, "
    "from the same features, without those patches."
)

_SOURCE = "removed"


class EffectTab(Tab):
    """Asks a pane's model again without the first patches of the shown map, or an area."""

    name = "Occlusion"

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(pane, parent)
        self.job = JobRow()
        self._build()
        self.top.clicked.connect(self._remove_top)
        self.area.clicked.connect(self._remove_area)
        self.draw.clicked.connect(self._draw_curves)
        self.back.clicked.connect(self._put_back)
        self.job.started.connect(self._refresh)
        self.job.finished.connect(self._refresh)
        view, prediction = pane.view_state.events, pane.prediction_state.events
        listen(self, self._refresh, prediction.prediction, view.area, view.display)
        listen(self, self._forget, prediction.prediction)
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
        self.share.setToolTip("Share of patches to remove, highest values of the shown map first")
        self.top = QPushButton("Remove top patches")
        self.area = QPushButton("Remove selected area")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.back = QPushButton("Restore")
        self.back.hide()
        self.outcome = QComboBox()
        self.outcome.setToolTip("Outcome whose probability the curves show")
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
        self.column.addWidget(self.back)
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
        prediction, area, picked = (
            self._pane.prediction,
            self._pane.view_state.area,
            self._pane.view_state.picked,
        )
        if prediction is None or area is None:
            return
        try:
            patches = patches_of(prediction, area) if picked is None else torch.tensor([picked])
        except ValueError as error:
            self.words.setText(str(error))
            return
        self._remove(patches, "the area" if picked is None else f"patch {picked + 1}")

    def _remove(self, patches: Tensor, what: str) -> None:
        prediction, model = self._pane.prediction, self._pane.model
        if prediction is None or model is None:
            return
        try:
            without(prediction.bag, patches)
        except ValueError as error:
            self.words.setText(str(error))
            return
        self.words.clear()
        job = removal_job(model.model, prediction, patches)
        self.job.run(job, partial(self._tell, prediction, what))

    def _tell(self, prediction: Prediction, what: str, effect: Effect) -> None:
        if self._pane.prediction is prediction:
            self.words.setText(removal_words(prediction, effect, what))
            self._pane.show_extra(_SOURCE, effect.maps)
            self.back.show()

    def _put_back(self) -> None:
        self._pane.show_extra(_SOURCE, ())
        self.words.clear()
        self.back.hide()

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
        self.job.cancel()
        self.words.clear()
        self.back.hide()
        self.plot.hide()
        outcomes = prediction.card.outcomes if prediction is not None else ()
        if list(outcomes) != [self.outcome.itemText(i) for i in range(self.outcome.count())]:
            self.outcome.clear()
            self.outcome.addItems(outcomes)
        if prediction is not None:
            self.outcome.setCurrentIndex(int(prediction.probabilities.argmax()))

    def _refresh(self, _: object = None) -> None:
        idle, asked = not self.job.busy, self._pane.view_state.area is not None
        busy = "The model is running"
        allow(self.top, idle, busy, "Predict again without the top patches")
        why = busy if asked else "Click a patch, or drag with Shift to draw an area, first"
        allow(self.area, idle and asked, why, "Predict again without the selected area")
        tip = "Predict again with more and more top patches removed, then with only those"
        allow(self.draw, idle, busy, tip)
