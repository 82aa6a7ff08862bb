"""ChangeBox: what an edit of the record changes: probabilities before and after, and the maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QGridLayout,
    QGroupBox,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.widgets.basic import Still
from napari_wsimil.gui.widgets.dock import allow, listen
from napari_wsimil.workflows.live_update import SOURCE

if TYPE_CHECKING:
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.session import Session

_HINT = "Edit a field to see the change of the prediction and of the map."


class ChangeBox(QGroupBox):
    """Compares a pane's prediction with its baseline.

    Attributes
    ----------
    compared
        Name of the map that is compared, which is shown where its change is not.
    """

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("Effect of the edit", parent)
        self._session, self._pane = session, session.pane
        self.compared = ""
        self._movement: Movement | None = None
        self.words = QLabel(_HINT)
        self.noise = QLabel()
        for label in (self.words, self.noise):
            label.setWordWrap(True)
        self.change_button = QPushButton("Show change")
        self.change_button.setCheckable(True)
        self.beside_button = QPushButton("Compare with baseline")
        self.pin_button = QPushButton("Pin as baseline")
        self.noise_button = QPushButton("Compare with variability")
        buttons = QGridLayout()
        buttons.addWidget(self.change_button, 0, 0)
        buttons.addWidget(self.beside_button, 0, 1)
        buttons.addWidget(self.pin_button, 1, 0)
        buttons.addWidget(self.noise_button, 1, 1)
        column = QVBoxLayout(self)
        column.addWidget(Still(self.words))
        column.addWidget(self.noise)
        column.addLayout(buttons)
        self.noise.hide()
        self.change_button.clicked.connect(self._show_change)
        self.beside_button.clicked.connect(self._lay_beside)
        self.pin_button.clicked.connect(self._pin)
        events = self._pane.prediction_state.events
        listen(self, self._show, events.prediction, events.baseline)
        listen(self, self._show_button, self._pane.view_state.events.display)
        self._show()

    def tell(self, movement: Movement | None, compared: str) -> None:
        """Tell how far the compared map moved."""
        self._movement = movement
        self.noise.hide()
        self.words.setText(_HINT if movement is None else moved_words(compared, movement))

    def tell_noise(self, noise: Noise, compared: str) -> None:
        """Tell how far the map moves for no reason, and whether this edit moves it farther."""
        bounds = noise.bounds(compared)
        said = [f"{source}: {bound.moved:.1%}" for source, bound in bounds.items()]
        words = f"Variability, at most: {', '.join(said)}." if said else "This map has no shares."
        if said and self._movement is not None:
            within = noise.within(self._movement, compared)
            words += (
                " The edit is <b>within variability</b>."
                if within
                else " The edit exceeds the variability."
            )
        self.noise.setText(words)
        self.noise.show()

    def _pin(self) -> None:
        self._pane.prediction_state.baseline = self._pane.prediction

    def _show_change(self, wanted: bool) -> None:
        """Show where the map moved, or the map again that was shown before."""
        pane, shown = self._pane, self._pane.shown
        if shown is None:
            return
        changes = pane.prediction_state.extras.get(SOURCE, ())
        if wanted and changes:
            pane.show_map(changes[0].name)
        else:
            pane.show_map(self.compared)

    def _lay_beside(self) -> None:
        """Show the baseline's map beside, of the same patches under the record before."""
        pane, beside = self._pane, self._session.beside
        if pane.prediction_state.baseline is None:
            return
        beside.show_same(pane)
        beside.show_model(pane.model)
        beside.show_prediction(pane.prediction_state.baseline)
        beside.show_map(self.compared)

    def _show(self, _: object = None) -> None:
        prediction, baseline = self._pane.prediction, self._pane.prediction_state.baseline
        reads = prediction is not None and prediction.card.record is not None
        self.setVisible(reads)
        if prediction is None or not reads:
            return
        why = "Edit a field first"
        allow(self.pin_button, prediction is not baseline, why, "Compare further edits with this")
        edited, does = baseline is not None, "Show the baseline map in a second canvas"
        allow(self.beside_button, edited, why, does)
        does = "Compare the map shift with the shift that occurs without any edit"
        allow(self.noise_button, edited, why, does)
        self._show_button()

    def _show_button(self, *_: object) -> None:
        shown = self._pane.shown
        changes = {one.name for one in self._pane.prediction_state.extras.get(SOURCE, ())}
        allow(
            self.change_button,
            bool(changes),
            "Edit a field first",
            "Attention change (after − before), in × average; one scale for all edits",
        )
        index = self._pane.display.map_index
        current = shown is not None and index < len(shown.explanations)
        name = shown.explanations[index].name if shown is not None and current else ""
        self.change_button.setChecked(name in changes)


def moved_words(name: str, found: Movement) -> str:
    """Return what a movement says, in a sentence."""
    if math.isnan(found.moved):
        return f"{name}: the map is 0 everywhere, so no shift can be measured."
    change = "stronger" if found.brighter >= 0 else "weaker"
    level = f"{100 * abs(found.brighter):.0f} % {change} overall"
    shift = "map moved or changed sign" if found.signed else "attention moved"
    both = ", positive and negative shares together," if found.signed else ""
    return (
        f"{name}: <b>{100 * found.moved:.0f} % of the {shift}</b>; {level}. Overlap of the top "
        f"1 % of patches: {100 * found.overlap:.0f} %; Jensen–Shannon distance{both} "
        f"{found.distance:.2f}."
    )


_BEHIND = "<span style='color: #e69f00'>● Map outdated: the record has changed</span>"


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
        events = pane.prediction_state.events
        listen(self, self._show, events.prediction, events.baseline)
        self._show()

    def tell_behind(self) -> None:
        """Mark the map and what is told here as older than the record."""
        self.tell(_BEHIND)

    def tell(self, words: str) -> None:
        """Tell how long the last edit took, or what it waits for."""
        self.latency.setText(words)

    def _show(self, _: object = None) -> None:
        after, before = self._pane.prediction, self._pane.prediction_state.baseline
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
