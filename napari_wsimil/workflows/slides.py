"""Slides: open, encode and predict slides named by their paths, one or a whole cohort."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.explain.predict import predict
from napari_wsimil.explain.query import ask
from napari_wsimil.explain.trajectory import after_looks
from napari_wsimil.progress import Progress
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.create_study import is_study
from napari_wsimil.training.bag_files import feature_path
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.training.tasks import Task
from napari_wsimil.workflows.pipeline import (
    NO_OPTIONS,
    BagOptions,
    CostAnnouncement,
    SlideJob,
    bag_of,
    encode_file,
    encoder_remarks,
)
from napari_wsimil.workflows.progress import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.geometry import Region
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.workflows.pipeline import PatchSettings


def open_job(path: Path | str, mpp: float | None = None) -> Work[Slide]:
    """Open a slide for viewing, with its overview in the cache."""
    yield Progress(text="opening the slide")
    slide = open_slide(path, mpp=mpp)
    with ExitStack() as undo:
        undo.callback(slide.close)
        yield Progress(text="reading an overview")
        slide.thumbnail()
        np.asarray(slide.display_levels[-1])
        undo.pop_all()
    return slide


@dataclass(frozen=True)
class SlideOutcome:
    """Outcome of the extraction of one slide.

    Attributes
    ----------
    patches
        Number of patches with features; None where there are none.
    skipped, failed
        Reason why nothing was extracted: not needed or not possible, or an error; else empty.
    """

    patches: int | None = None
    skipped: str = ""
    failed: str = ""

    @property
    def text(self) -> str:
        """Cell of a table: "done: 120 patches", or the reason why not."""
        if self.failed:
            return f"failed: {self.failed}"
        return f"skipped: {self.skipped}" if self.skipped else f"done: {self.patches} patches"


def encode_one(job: SlideJob, settings: PatchSettings) -> Work[Bag]:
    """Encode one slide, or read its finished features, and return its bag."""
    encoder = settings.create_encoder()
    yield from encoder_remarks(encoder, settings)
    bag, _ = yield from encode_file(job, settings, encoder, CostAnnouncement())
    return bag


def encode_many(jobs: Sequence[SlideJob], settings: PatchSettings) -> Work[list[SlideOutcome]]:
    """Encode slides with one encoder; return the outcome of each.

    A slide that fails does not end the others. The cost is measured on the first slide.

    Raises
    ------
    ValueError
        If there is no such encoder or its weights are missing.
    OSError
        If the disk is full.
    """
    encoder = settings.create_encoder()
    yield from encoder_remarks(encoder, settings)
    costs = CostAnnouncement(sum(not job.seems_finished for job in jobs))
    outcomes = []
    for job in jobs:
        try:
            bag, before = yield from encode_file(job, settings, encoder, costs)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE):
                raise  # every later slide would fail too
            outcomes.append(SlideOutcome(failed=sentence(error)))
            continue
        outcomes.append(SlideOutcome(len(bag), "features are there already" if before else ""))
    return outcomes


def is_cohort(path: Path | str) -> bool:
    """Return whether a path is a manifest or a study, not one slide."""
    path = Path(path)
    return path.suffix.lower() == ".csv" or is_study(path)


def jobs_of(path: Path | str, out: Path | str, mpp: float | None) -> dict[str, SlideJob | None]:
    """Return the jobs of the slides in a manifest or study, by name, with features in `out`.

    A slide without slide_path has no job.

    Raises
    ------
    ValueError
        If no slide has a slide_path.
    """
    path = Path(path)
    out = Path(out)
    jobs: dict[str, SlideJob | None] = {}
    for patient in read_cohort(path, None).patients:
        for row in patient.slides:
            image, target = row.slide_path, out / f"{row.slide}.h5"
            jobs[row.slide] = None if image is None else SlideJob(image, target, row.mpp or mpp)
    if not any(jobs.values()):
        raise ValueError(f"{path}: no slide has a slide_path to extract from")
    return jobs


def encode_cohort(
    jobs: Mapping[str, SlideJob | None], settings: PatchSettings
) -> Work[dict[str, SlideOutcome]]:
    """Encode the slides of a cohort; errors as of `encode_many`."""
    made = yield from encode_many([job for job in jobs.values() if job is not None], settings)
    outcomes = iter(made)
    return {
        name: SlideOutcome(skipped="no slide_path") if job is None else next(outcomes)
        for name, job in jobs.items()
    }


def encode_missing(
    manifest: Manifest,
    folder: Path | str | None,
    settings: PatchSettings,
    task: Task = Task.CLASSIFICATION,
) -> Work[None]:
    """Encode slides of a task's patients whose features are missing or not complete.

    Raises
    ------
    ValueError
        If slides cannot be encoded, after all others are; names all of them.
    """
    jobs = [
        SlideJob(slide.slide_path, feature_path(slide, folder), slide.mpp)
        for patient in manifest.patients
        for slide in (patient.slides if task.known_of(patient) else ())
        if slide.slide_path is not None
    ]
    missing = [job for job in jobs if not job.seems_finished]
    outcomes = (yield from encode_many(missing, settings)) if missing else []
    failed = [outcome.failed for outcome in outcomes if outcome.failed]
    if failed:
        raise ValueError(f"{len(failed)} slides cannot be encoded: {'; '.join(failed)}")


@dataclass(frozen=True)
class SlideQuery:
    """A checkpoint, a slide or features file, and a source of its clinical record.

    Attributes
    ----------
    checkpoint, path
        The model, and the slide or the file of its features.
    options
        Of the path.
    manifest
        Manifest or study with the patient's record; None for models without records.
    """

    checkpoint: Path
    path: Path
    options: BagOptions = NO_OPTIONS
    manifest: Path | None = None


def predict_path(
    query: SlideQuery, *, needs_record: bool = True
) -> Work[tuple[MILModel, Prediction]]:
    """Return a model and its prediction for a slide or a file of features."""
    model, card = load_checkpoint(query.checkpoint)
    record = record_for(query.path, card, query.manifest, needed=needs_record)
    bag = yield from bag_of(query.path, card, query.options, model.needs)
    return model, predict(model, card, bag, record)


def explain_path(query: SlideQuery, *, area: Region | None, looks: int | None) -> Work[Prediction]:
    """Return a prediction, with its maps of an area or after some steps if given.

    For models without records the manifest may be a study: it then names the slide's patient.

    Raises
    ------
    ValueError
        If both area and steps are given.
    """
    if area is not None and looks is not None:
        raise ValueError("--looks asks about the slide, --query and --area about a place: give one")
    needs_record = query.manifest is None or not is_study(query.manifest)
    model, prediction = yield from predict_path(query, needs_record=needs_record)
    if looks is not None:
        return after_looks(model, prediction, looks)
    return prediction if area is None else ask(model, prediction, area)


def record_for(
    path: Path | str, card: Card, manifest: Path | str | None, *, needed: bool = True
) -> Record | None:
    """Return the record of the patient with a slide, or features, at `path`.

    None where no manifest is given, or the model reads no records and none is `needed`.

    Raises
    ------
    ValueError
        As `patient_for`.
    """
    if manifest is None or not (needed or card.record is not None):
        return None
    return patient_for(path, card, manifest).record


def patient_for(path: Path | str, card: Card, manifest: Path | str) -> Patient:
    """Return the patient in a manifest with a slide, or features, at `path`.

    Raises
    ------
    ValueError
        If the model reads no records, or the manifest has no such slide.
    """
    path = Path(path)
    manifest = Path(manifest)
    if card.record is None:
        raise ValueError(f"--manifest {manifest}: {card.model} reads no clinical record")
    patient = read_cohort(manifest, card.record.clinical).owner(path)
    if patient is None:
        raise ValueError(f"{manifest} has no slide {path.stem!r}")
    return patient
