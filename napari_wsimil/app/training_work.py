"""Training work: a run as a job of the window; knows no Qt."""

from __future__ import annotations

import copy
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.app.pace import Pace
from napari_wsimil.app.session import LoadedModel
from napari_wsimil.app.work import Step

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.learning.evaluation import Step as LibraryStep
    from napari_wsimil.learning.fit import Epoch
    from napari_wsimil.learning.run import RunConfig
    from napari_wsimil.learning.training import Event, Prepared, Trained


#: Seconds between two steps of a training that tell no more than how far it is.
_INTERVAL = 0.05


@dataclass(frozen=True)
class TrainingStep(Step):
    """How far a training is.

    Attributes
    ----------
    prepared
        Model and card, once, before the first epoch.
    pinned
        What answers of the pinned slide, with `prepared`; None if nothing can.
    epoch
        That has just ended.
    snapshot
        Its first map of the pinned slide.
    """

    prepared: Prepared | None = None
    pinned: LoadedModel | None = None
    epoch: Epoch | None = None
    snapshot: Prediction | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """A training that came to its end, and what its model says of the pinned slide."""

    trained: Trained
    prediction: Prediction | None


def train_job(config: RunConfig, bag: Bag | None = None) -> Generator[Step, None, Finished]:
    """Return what came of a run; the numbers are those of `train_run`, bag or no bag.

    Parameters
    ----------
    bag
        The pinned slide: after each epoch a copy of the model is asked about it, so that
        neither the window nor this work ever touches the model in training. Features of
        another encoder than the cohort's are left out.
    """
    from napari_wsimil.explain.predict import predict
    from napari_wsimil.learning.run import train_run

    yield Step("reading the cohort")
    pace = Pace(_INTERVAL, 1.0)
    watcher: _Watcher | None = None
    trained: Trained
    with closing(train_run(config)) as work:
        while True:
            try:
                event = next(work)
            except StopIteration as stop:
                trained = stop.value
                break
            if watcher is None:
                watcher = _Watcher.of(event, bag)
            step = _step(event, watcher)
            if isinstance(step, TrainingStep) or pace.due:
                with pace:
                    yield step
    pinned = None if watcher is None else watcher.bag
    if pinned is None:
        return Finished(trained, None)
    return Finished(trained, predict(trained.model, trained.card, pinned))


def save_run_job(path: Path, config: RunConfig) -> Generator[Step, None, Path]:
    """Return the file that a run was written to."""
    yield Step("writing the run")
    from napari_wsimil.learning.run import write_run

    write_run(path, config)
    return path


class _Watcher:
    """Asks a copy of the model in training about the pinned slide."""

    def __init__(self, prepared: Prepared, bag: Bag | None) -> None:
        self.bag = bag if bag is not None and bag.encoder == prepared.card.encoder else None
        self._trained = prepared.model
        told = f"{prepared.card.data}; training not finished"
        card = prepared.card.model_copy(update={"data": told})
        self.loaded = LoadedModel(copy.deepcopy(prepared.model).eval(), card, "in training")

    @classmethod
    def of(cls, event: Event, bag: Bag | None) -> _Watcher | None:
        from napari_wsimil.learning.training import Prepared

        return cls(event, bag) if isinstance(event, Prepared) else None

    def ask(self) -> Prediction | None:
        """Return the first map of the pinned slide, by the weights of this moment."""
        from napari_wsimil.explain.predict import predict

        if self.bag is None:
            return None
        self.loaded.model.load_state_dict(self._trained.state_dict())
        found = predict(self.loaded.model, self.loaded.card, self.bag)
        return replace(found, explanations=found.explanations[:1], trajectory=None)


def _step(event: Event, watcher: _Watcher | None) -> Step:
    from napari_wsimil.learning.fit import Epoch
    from napari_wsimil.learning.training import Prepared
    from napari_wsimil.learning.unfinished import title

    if isinstance(event, Prepared):
        pinned = watcher.loaded if watcher is not None and watcher.bag is not None else None
        return TrainingStep("starting", prepared=event, pinned=pinned)
    if isinstance(event, Epoch):
        snapshot = None if watcher is None else watcher.ask()
        return TrainingStep(title(event), event.number, event.total, epoch=event, snapshot=snapshot)
    return _told(event)


def _told(event: LibraryStep) -> Step:
    return Step(event.stage, event.done, event.total)
