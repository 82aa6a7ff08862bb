"""ProgressBox: a training as it goes, in words, curves and maps."""

from __future__ import annotations

import html
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_wsimil.gui.docks.train.plots import Curves
from napari_wsimil.gui.widgets.background import Throttle
from napari_wsimil.gui.widgets.dock import listen
from napari_wsimil.training.checkpoint import title
from napari_wsimil.training.splits import gaps
from napari_wsimil.training.tasks import Task
from napari_wsimil.workflows.progress import RateLimiter
from napari_wsimil.workflows.training import TrainingStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Progress
    from napari_wsimil.training.fit import Epoch
    from napari_wsimil.training.train import Prepared
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
        self._live = Throttle(self, self._show_newest, RateLimiter(0.1, _SHARE, 1.0))
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("The pinned slide's map after each epoch; right is the newest")
        self.label = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Map of"))
        row.addWidget(self.slider, 1)
        row.addWidget(self.label)
        self.slider.valueChanged.connect(self._show)
        listen(self, self._hide_without_slide, pane.slide_state.events.bag)
        self.hide()

    def start(self, bag: Bag | None, loaded: LoadedModel | None) -> None:
        """Begin anew with a pinned slide and what answers of it, if both are there."""
        self._bag, self._loaded, self._kept = bag, loaded, None
        self._maps, self._state = [], _RUNNING
        self._live.cancel()
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
            self._live.request()

    def _show_newest(self) -> None:
        """Show the map at the slider, unless another model has been opened meanwhile."""
        if self._maps and self._pane.model is self._loaded:
            self._show(self.slider.value())

    def stop(self) -> None:
        """Say of the maps there are that training was stopped."""
        self._state = _STOPPED
        self._live.cancel()
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
        self._live.cancel()
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


_RECENT = 5  # epochs from which the time left is told


class ProgressBox(QWidget):
    """Takes the steps of a training.

    Attributes
    ----------
    running
        From `start` until `finish` or `stop`.
    """

    def __init__(self, pane: Pane, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.running = False
        self._bag: Bag | None = None
        self.who = QLabel()
        self.who.setWordWrap(True)
        self.told = QLabel("Nothing is trained yet.")
        self.told.setWordWrap(True)
        self.maps = EpochMaps(pane)
        self.curves = Curves()
        self.curves.hide()
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        for widget in (self.who, self.told, self.maps, self.curves):
            inside.addWidget(widget)
        inside.addStretch(1)

    def start(self, bag: Bag | None) -> None:
        """Begin anew, with the pinned slide's features if one is pinned."""
        self.running, self._bag = True, bag
        self.who.clear()
        self.told.setText("Reading the cohort")
        self.curves.start()
        self.curves.show()
        self.maps.start(None, None)

    def take(self, step: Progress) -> None:
        """Show what is new."""
        if not isinstance(step, TrainingStep):
            return
        if step.prepared is not None:
            self._show_prepared(step.prepared)
            self.maps.start(self._bag, step.pinned)
        for one in step.snapshots:
            self.curves.add(one.epoch)
            if one.prediction is not None:
                self.maps.add(one.epoch, one.prediction)
        if step.snapshots:
            self.told.setText(_words(self.curves.epochs))

    def finish(self, finished: Finished, loaded: LoadedModel) -> None:
        """Say that it is over; the kept model's map comes last."""
        self._end("Finished")
        self.maps.finish(finished, loaded)

    def stop(self) -> None:
        """Say that it was stopped."""
        if self.running:
            self._end("Stopped")
            self.maps.stop()

    def _end(self, how: str) -> None:
        self.running = False
        epochs = self.curves.epochs
        words = [how, title(epochs[-1]), *_best(epochs, "kept")] if epochs else [how]
        self.told.setText(" · ".join(words))

    def _show_prepared(self, prepared: Prepared) -> None:
        card = prepared.card
        words = f"<b>{card.model}</b>: {card.data}"
        if self._bag is not None and self._bag.encoder != card.encoder:
            words += "<br>The open slide's features are of another encoder: no maps of it."
        for sentence in gaps(card.parts, Task(card.task), prepared.unit):
            words += f"<br>{html.escape(sentence, quote=False)}"
        self.who.setText(words)


def _words(epochs: Sequence[Epoch]) -> str:
    now = epochs[-1]
    words = [title(now)]
    if now.done < now.total:
        seconds = [one.seconds for one in epochs if one.text == now.text][-_RECENT:]
        left = _duration(median(seconds) * (now.total - now.done))
        words.append(f"{left} left" if now.text == "fit" else f"{left} left of this stage")
    return " · ".join(words + _best(epochs, "best"))


def _best(epochs: Sequence[Epoch], what: str) -> list[str]:
    """Return which epoch is the best of its stage, where validation tells."""
    some = [one for one in epochs if one.text == epochs[-1].text and one.validation and one.best]
    return [f"{what}: epoch {some[-1].done}"] if some else []


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
