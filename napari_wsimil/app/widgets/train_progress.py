"""ProgressBox: a training as it goes, in words, curves and maps."""

from __future__ import annotations

import html
from statistics import median
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_wsimil.app.widgets.train_curves import Curves
from napari_wsimil.app.widgets.train_epochs import EpochMaps
from napari_wsimil.training.checkpoint import title
from napari_wsimil.training.gaps import gaps
from napari_wsimil.training.tasks import Task
from napari_wsimil.workflows.training import TrainingStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.app.session import LoadedModel, Pane
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.training.fit import Epoch
    from napari_wsimil.training.train import Prepared
    from napari_wsimil.workflows.pipeline import Step
    from napari_wsimil.workflows.training import Finished

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

    def take(self, step: Step) -> None:
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
    if now.number < now.total:
        seconds = [one.seconds for one in epochs if one.stage == now.stage][-_RECENT:]
        left = _duration(median(seconds) * (now.total - now.number))
        words.append(f"{left} left" if now.stage == "fit" else f"{left} left of this stage")
    return " · ".join(words + _best(epochs, "best"))


def _best(epochs: Sequence[Epoch], what: str) -> list[str]:
    """Return which epoch is the best of its stage, where validation tells."""
    some = [one for one in epochs if one.stage == epochs[-1].stage and one.validation and one.best]
    return [f"{what}: epoch {some[-1].number}"] if some else []


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
