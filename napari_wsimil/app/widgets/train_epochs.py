"""EpochMaps: the pinned slide's map after each epoch, and the way back through them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from napari_wsimil.app.widgets.paced import Paced
from napari_wsimil.training.checkpoint import title
from napari_wsimil.workflows.progress import Pace

if TYPE_CHECKING:
    from napari_wsimil.app.session import LoadedModel, Pane
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.training.fit import Epoch
    from napari_wsimil.workflows.training import Finished

#: Largest share of the window's time that goes into drawing the newest map.
_SHARE = 0.1
_RUNNING, _STOPPED, _ENDED = "model still training", "training was stopped", "before the end"


class EpochMaps(QWidget):
    """Shows maps of the pinned slide in a pane while that slide is there; hidden without one.

    The slider's right end is the newest epoch, and after training the model that was kept.
    """

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pane = pane
        self._bag: Bag | None = None
        self._loaded: LoadedModel | None = None
        self._maps: list[tuple[Epoch, Prediction]] = []
        self._kept: tuple[LoadedModel, Prediction] | None = None
        self._state = _RUNNING
        self._live = Paced(self, self._show_newest, Pace(0.1, _SHARE, 1.0))
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("The pinned slide's map after each epoch; right is the newest")
        self.label = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Map of"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self.slider.valueChanged.connect(self._show)
        pane.events.bag.connect(self._hide_without_slide)
        self.hide()

    def start(self, bag: Bag | None, loaded: LoadedModel | None) -> None:
        """Begin anew with a pinned slide and what answers of it, if both are there."""
        self._bag, self._loaded, self._kept = bag, loaded, None
        self._maps, self._state = [], _RUNNING
        self._live.forget()
        self.hide()
        if bag is not None and loaded is not None and self._pane.bag is bag:
            self._pane.show_model(loaded)

    def add(self, epoch: Epoch, snapshot: Prediction) -> None:
        """Take the map of an epoch; it is shown if the newest was."""
        live = self.slider.value() == self.slider.maximum() or not self._maps
        self._maps.append((epoch, snapshot))
        self.slider.blockSignals(True)
        self.slider.setRange(1, len(self._maps))
        if live:
            self.slider.setValue(len(self._maps))
        self.slider.blockSignals(False)
        self._hide_without_slide()
        if live:
            self._live.ask()

    def _show_newest(self) -> None:
        """Show the map at the slider, unless another model has been opened meanwhile."""
        if self._maps and self._pane.model is self._loaded:
            self._show(self.slider.value())

    def stop(self) -> None:
        """Say of the maps there are that training was stopped."""
        self._state = _STOPPED
        self._live.forget()
        self._show_newest()

    def finish(self, finished: Finished, loaded: LoadedModel) -> None:
        """Put the kept model's map at the right end, and show it if maps were being shown."""
        if finished.prediction is None or not self._maps:
            return
        self._state, self._kept = _ENDED, (loaded, finished.prediction)
        self.slider.blockSignals(True)
        self.slider.setRange(1, len(self._maps) + 1)
        self.slider.setValue(self.slider.maximum())
        self.slider.blockSignals(False)
        self._live.forget()
        self._show_newest()

    def _show(self, number: int) -> None:
        """Show a map as the pane's prediction, by the model it is of."""
        if self._bag is None or self._pane.bag is not self._bag:
            return
        loaded, prediction, name = self._at(number)
        self.label.setText(name)
        if self._pane.model is not loaded:
            self._pane.show_model(loaded)
        self._pane.show_prediction(prediction)

    def _at(self, number: int) -> tuple[LoadedModel | None, Prediction, str]:
        """Return model, map and name of a place of the slider."""
        if self._kept is not None and number > len(self._maps):
            return (*self._kept, "the kept model")
        epoch, snapshot = self._maps[number - 1]
        warning = f"{title(epoch)}, {self._state}"
        told = replace(snapshot, warnings=(warning, *snapshot.warnings))
        return self._loaded, told, title(epoch)

    def _hide_without_slide(self, _: object = None) -> None:
        if isalive(self):
            self.setVisible(bool(self._maps) and self._pane.bag is self._bag)
