"""AnswerBars: the probabilities of a pane's outcomes, before an edit of the record and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QWidget

from napari_wsimil.app.widgets.still import Still

if TYPE_CHECKING:
    from napari_wsimil.app.session import Pane
    from napari_wsimil.explain.predict import Prediction

_BEHIND = "<span style='color: #e69f00'>● The map is older than the record</span>"


class AnswerBars(QWidget):
    """A bar per outcome, and how old what is on screen is."""

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self._names: tuple[str, ...] = ()
        self.bars: list[QProgressBar] = []
        self.latency = QLabel()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(4, 0, 4, 0)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._grid.addWidget(Still(self.latency), 0, 0, 1, 2)
        for event in ("prediction", "baseline"):
            pane.events[event].connect(self._show)
        self._show()

    def tell_behind(self) -> None:
        """Mark the map and what is told here as older than the record."""
        self.tell(_BEHIND)

    def tell(self, words: str) -> None:
        """Tell how long the last edit took, or what it waits for."""
        self.latency.setText(words)

    def _show(self, _: object = None) -> None:
        if not isalive(self):
            return
        after, before = self._pane.prediction, self._pane.baseline
        reads = after is not None and after.card.record is not None
        self.setVisible(reads)
        if after is None or not reads:
            return
        self._name(after)
        pairs = zip(
            (before or after).probabilities.tolist(), after.probabilities.tolist(), strict=True
        )
        for bar, (was, now) in zip(self.bars, pairs, strict=True):
            bar.setValue(round(1000 * now))
            bar.setFormat(f"{was:.1%} → {now:.1%}" if before is not None else f"{now:.1%}")

    def _name(self, prediction: Prediction) -> None:
        """Lay out a bar for each outcome, unless they are there."""
        if prediction.card.outcomes == self._names:
            return
        self._names = prediction.card.outcomes
        while self._grid.count() > 1:
            self._grid.takeAt(1).widget().deleteLater()
        self.bars = []
        for row, name in enumerate(self._names, 1):
            bar = QProgressBar()
            bar.setRange(0, 1000)
            self.bars.append(bar)
            self._grid.addWidget(QLabel(name), row, 0)
            self._grid.addWidget(bar, row, 1)
