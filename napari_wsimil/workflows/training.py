"""Training work: a run as a job of the window; knows no Qt."""

from __future__ import annotations

import copy
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_wsimil.models.loaded import LoadedModel
from napari_wsimil.progress import Progress, Work
from napari_wsimil.workflows.progress import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.feature_check import FeatureReport
    from napari_wsimil.training.fit import Epoch
    from napari_wsimil.training.tasks import Task
    from napari_wsimil.training.train import Prepared, Trained

Result = TypeVar("Result")

#: Seconds between two steps of a training.
_INTERVAL = 0.05


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An epoch, and the first map of the pinned slide after it, if one is pinned."""

    epoch: Epoch
    prediction: Prediction | None


@dataclass(frozen=True, kw_only=True)
class TrainingStep(Progress):
    """Progress of a training, with what is new since the step before.

    Attributes
    ----------
    prepared
        Model and card, once, before the first epoch.
    pinned
        The model for the pinned slide, with `prepared`; None if there is none.
    snapshots
        The epochs that have ended.
    """

    prepared: Prepared | None = None
    pinned: LoadedModel | None = None
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True, eq=False)
class Finished:
    """A training that came to its end, and what its model says of the pinned slide."""

    trained: Trained
    prediction: Prediction | None


def train_job(config: RunConfig, bag: Bag | None = None) -> Work[Finished]:
    """Return what came of a run; the numbers are those of `train_run`, bag or no bag.

    Parameters
    ----------
    bag
        The pinned slide: after each epoch a copy of the model is asked about it, so that
        neither the window nor this work ever touches the model in training. Features of
        another encoder than the cohort's are left out.
    """
    from napari_wsimil.explain.predict import predict
    from napari_wsimil.training.train import train_run

    yield Progress(text="reading the cohort")
    teller = _Teller(bag)
    with closing(train_run(config)) as work:
        trained = yield from teller.tell(work)
    if teller.pinned is None:
        return Finished(trained, None)
    return Finished(trained, predict(trained.model, trained.card, teller.pinned))


def checked_features(
    manifest: Manifest, folder: Path | str | None, task: Task, wanted: Callable[[], bool]
) -> FeatureReport | None:
    """Return problems of a cohort's features; None once they are not wanted any more."""
    from napari_wsimil.training.dataset import survey_cohort

    reports: list[FeatureReport] = []
    for _ in _collected(survey_cohort(manifest, folder, task), reports):
        if not wanted():
            return None
    return reports[0]


def _collected(work: Work[Result], results: list[Result]) -> Work[None]:
    """Yield the progress of `work`; its result is appended to `results`."""
    results.append((yield from work))


def cohort_paths(manifest: Manifest) -> set[Path]:
    """Return the files of a cohort's slides, and their names, which often are those of files."""
    slides = [slide for patient in manifest.patients for slide in patient.slides]
    paths = {path for slide in slides for path in (slide.slide_path, slide.feature_path) if path}
    return paths | {Path(slide.slide) for slide in slides}


@dataclass(frozen=True, eq=False)
class OpenedCohort:
    """A cohort to train on, with its encoder; or the reason why there is none.

    Attributes
    ----------
    cohort
        Its cases; None if they cannot be read.
    encoder
        Identity of the encoder of its features; empty if these cannot be read.
    error
        The reason.
    """

    cohort: Manifest | None = None
    encoder: str = ""
    error: Exception | None = None


def open_for_training(
    path: Path | str, schema: Path | str | None, features: Path | str | None
) -> OpenedCohort:
    """Return a cohort, the keys of its slides read too; work for a thread."""
    from napari_wsimil.training.dataset import open_cohort
    from napari_wsimil.training.identity import encoder_of

    cohort = None
    try:
        cohort = open_cohort(path, schema)
        encoder = encoder_of(cohort, features)
    except (ValueError, OSError) as error:
        return OpenedCohort(cohort, error=error)
    finally:
        if cohort is not None:
            read_keys(cohort, features)
    return OpenedCohort(cohort, encoder)


def read_keys(manifest: Manifest, folder: Path | str | None) -> None:
    """Read the keys of a cohort's slides, so that they are known at once from then on.

    A slide that cannot be read is passed over here: to train on it is refused with the reason.
    """
    from napari_wsimil.training.identity import slide_key

    for patient in manifest.patients:
        for slide in patient.slides:
            with suppress(ValueError, OSError):
                slide_key(slide, folder)


def save_run_job(path: Path | str, config: RunConfig) -> Work[Path]:
    """Return the file that a run was written to."""
    path = Path(path)
    yield Progress(text="writing the run")
    from napari_wsimil.training.config import write_run

    write_run(path, config)
    return path


class _Teller:
    """Makes steps of what a training yields, and asks about the pinned slide.

    Steps come at a pace the window can follow: of short epochs each brings several.
    """

    def __init__(self, bag: Bag | None) -> None:
        self.pinned = bag
        self._pace = RateLimiter(_INTERVAL, 1.0)
        self._trained: MILModel | None = None
        self._loaded: LoadedModel | None = None
        self._new: list[Snapshot] = []

    def tell(self, work: Work[Trained]) -> Work[Trained]:
        """Yield steps until the work has returned."""
        trained: list[Trained] = []
        for event in _collected(work, trained):
            yield from self._steps(event)
        yield self._step("finishing")
        return trained[0]

    def _steps(self, event: Progress) -> Iterator[TrainingStep]:
        """Yield the step of an event, if it is due."""
        from napari_wsimil.training.fit import Epoch
        from napari_wsimil.training.train import Prepared

        if isinstance(event, Prepared):
            yield self._begin(event)
        elif isinstance(event, Epoch):
            self._new.append(Snapshot(event, self._ask()))
        elif self._pace.due:
            with self._pace:
                yield self._step(event.text, event.done, event.total)

    def _begin(self, prepared: Prepared) -> TrainingStep:
        card = prepared.card
        if self.pinned is not None and self.pinned.encoder != card.encoder:
            self.pinned = None
        if self.pinned is not None:
            told = card.model_copy(update={"data": f"{card.data}; training not finished"})
            self._trained = prepared.model
            self._loaded = LoadedModel(copy.deepcopy(prepared.model).eval(), told, "in training")
        return TrainingStep(text="starting", prepared=prepared, pinned=self._loaded)

    def _ask(self) -> Prediction | None:
        """Return the first map of the pinned slide, by the weights of this moment."""
        from napari_wsimil.explain.predict import predict

        if self.pinned is None or self._loaded is None or self._trained is None:
            return None
        self._loaded.model.load_state_dict(self._trained.state_dict())
        found = predict(self._loaded.model, self._loaded.card, self.pinned)
        return replace(found, explanations=found.explanations[:1], trajectory=None)

    def _step(self, text: str, done: int = 0, total: int = 0) -> TrainingStep:
        new, self._new = tuple(self._new), []
        return TrainingStep(done, total, text, snapshots=new)
