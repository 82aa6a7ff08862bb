"""How the command line comes from slides to bags."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.cli.console import follow, remark, sentence, warn
from napari_wsimil.cohort.manifest import SlideRow
from napari_wsimil.explain.predict import predict
from napari_wsimil.explain.query import ask
from napari_wsimil.explain.trajectory import after_looks
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import estimate, extract_features
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import bag_as, is_features, read_stated, with_patches
from napari_wsimil.features.store import is_finished, load_bag
from napari_wsimil.gui.case import Case
from napari_wsimil.gui.startup import Opening
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.study.create_study import is_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import feature_path, read_cohort
from napari_wsimil.training.subpatch_provider import closer_for
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.factory import PatchEncoder
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.slides.geometry import Region
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide

#: Share by which µm per pixel may differ from what an encoder was made for.
_MPP_TOLERANCE = 0.1


@dataclass(frozen=True)
class Patches:
    """How slides are cut and encoded.

    `mpp` is in µm per pixel, `pixels` the side of a patch; `download` allows to fetch weights.
    """

    encoder: str = "stain-texture"
    weights: Path | None = None
    mpp: float = 0.5
    pixels: int = 224
    overlap: float = 0.0
    download: bool = False


@dataclass(frozen=True)
class SlideJob:
    """A slide to encode; without `target` its features are not written.

    `mpp` is its µm per level-0 pixel where that is stated against the header.
    """

    path: Path
    target: Path | None = None
    mpp: float | None = None

    @property
    def finished(self) -> bool:
        """Return whether its features are there, by whomever."""
        return self.target is not None and is_finished(self.target)

    @property
    def seems_finished(self) -> bool:
        """Return `finished`; True where the features are damaged, as nothing is encoded then."""
        try:
            return self.finished
        except (ValueError, OSError):
            return True


def patches_of(card: Card, weights: Path | None = None) -> Patches:
    """Return how the slides were cut and encoded that a model learned from.

    Raises
    ------
    ValueError
        If the model learned from features without places.
    """
    if card.mpp is None or card.pixels is None:
        raise ValueError(
            "the model learned at an unknown µm per pixel: extract features first, and give them"
        )
    name = card.encoder.partition("@")[0]
    if not name:
        raise ValueError(
            "the model learned from features of an unnamed encoder: extract features first, "
            "and give them"
        )
    return Patches(name, weights, card.mpp, card.pixels, card.overlap or 0.0)


def extract_slides(jobs: Sequence[SlideJob], patches: Patches) -> Iterator[Bag]:
    """Yield the bag of each slide, all by one encoder; what is finished is only read.

    The first slide that fails ends it.
    """
    for _, bag in encoded(jobs, patches):
        if isinstance(bag, Exception):
            raise bag
        yield bag


def encoded(
    jobs: Sequence[SlideJob], patches: Patches
) -> Iterator[tuple[bool, Bag | ValueError | OSError]]:
    """Yield of each slide whether it was finished before, and its bag or why there is none.

    What the encoder is, and the cost as measured on the first slide, is told first.
    """
    encoder = create_encoder(patches.encoder, patches.weights, patches.download)
    _tell_encoder(encoder, patches)
    left = sum(not job.seems_finished for job in jobs)
    told = False
    for job in jobs:
        try:
            with open_slide(job.path, mpp=job.mpp) as slide, _core_to_spare():
                warn([f"{job.path.name}: {note}" for note in slide.notes(names=True)])
                bag = _finished_bag(job, slide, encoder, patches)
                was_finished = bag is not None
                if bag is None:
                    tissue = find_tissue(slide)
                    grid = make_grid(slide, tissue, patches.mpp, patches.pixels, patches.overlap)
                    if not told:
                        _tell_cost(slide, grid, encoder, left)
                    told = True
                    bag = _extract(job, slide, grid, encoder)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE):
                raise  # no slide after this one would fare better
            yield False, error
            continue
        yield was_finished, bag


def _extract(job: SlideJob, slide: Slide, grid: PatchGrid, encoder: PatchEncoder) -> Bag:
    if job.target is not None:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    return follow(extract_features(slide, grid, encoder, job.target), "encoding")


def _finished_bag(
    job: SlideJob, slide: Slide, encoder: PatchEncoder, patches: Patches
) -> Bag | None:
    """Return the bag in a finished file of the same slide, cut and encoded alike."""
    if job.target is None or slide.resolution.mpp is None or not job.finished:
        return None
    bag = load_bag(job.target)
    size = round(patches.pixels * patches.mpp / slide.resolution.mpp)
    wanted = size, round(size * (1 - patches.overlap)), patches.pixels
    cut = bag.grid and (bag.grid.patch_size, bag.grid.stride, bag.grid.pixels)
    made_by = bag.encoder, bag.slide
    if cut != wanted or made_by != (encoder.card.identity, slide.fingerprint):
        return None
    bag = replace(bag, reading=bag.reading.of(slide.reading))
    if caveat := bag.reading.caveat:
        warn([f"{job.target}: {caveat} (delete the file first)"])
    return bag


def _tell_encoder(encoder: PatchEncoder, patches: Patches) -> None:
    card = encoder.card
    remark("; ".join((f"encoder {card.identity}: license: {card.license}", *card.notes)))
    if card.mpp is not None and abs(patches.mpp / card.mpp - 1) > _MPP_TOLERANCE:
        warn([f"{card.name} was made for {card.mpp:g} µm per pixel, patches have {patches.mpp:g}"])


def _tell_cost(slide: Slide, grid: PatchGrid, encoder: PatchEncoder, slides: int) -> None:
    cost = estimate(slide, grid, encoder)
    of_all = (
        f" per slide, {slides} slides: about {slides * cost.hours:.2g} hours and "
        f"{slides * cost.gigabytes:.2g} GB in all"
        if slides > 1
        else ""
    )
    remark(
        f"{len(grid)} patches at {grid.mpp:.3g} µm per pixel: about {cost.hours:.2g} hours "
        f"({cost.patches_per_second:.0f} patches/s) and {cost.gigabytes:.2g} GB{of_all}"
    )


@contextmanager
def _core_to_spare() -> Iterator[None]:
    """Leave one core to the threads that read patches; torch's would wait for it in a loop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def extract_missing(
    manifest: Manifest,
    folder: Path | None,
    patches: Patches,
    task: Task = Task.CLASSIFICATION,
) -> None:
    """Extract the slides, whose features are missing or not finished, of a task's patients.

    Raises
    ------
    ValueError
        If some slides cannot be encoded, once all others are; names all of them.
    """
    jobs = [
        SlideJob(slide.slide_path, feature_path(slide, folder), slide.mpp)
        for patient in manifest.patients
        for slide in (patient.slides if task.known_of(patient) else ())
        if slide.slide_path is not None
    ]
    missing = [job for job in jobs if not job.seems_finished]
    bags = (bag for _, bag in encoded(missing, patches)) if missing else ()
    failed = [sentence(bag) for bag in bags if isinstance(bag, Exception)]
    if failed:
        raise ValueError(f"{len(failed)} slides cannot be encoded: {'; '.join(failed)}")


def bag_for(
    path: Path, card: Card, weights: Path | None, mpp: float | None, patch_size: int | None
) -> Bag:
    """Return the bag in a file of features, or of a slide encoded as the model learned it.

    Raises
    ------
    ValueError
        If a patch size is given for a slide, which the model states, or what is for
        encoding a slide with features, or µm per pixel with features that state it.
    """
    if is_features(path):
        confirmed = with_patches(path, Confirmed(patch_size=patch_size, mpp=mpp))
        stated = read_stated(path, confirmed)
        for option, given in (("--weights", weights), ("--slide-mpp", mpp)):
            if given is not None and (option == "--weights" or stated.mpp is not None):
                raise ValueError(f"{option} {given} is for a slide, not {path}")
        return bag_as(stated, confirmed)
    if patch_size is not None:
        raise ValueError(f"--patch-size {patch_size} is for a file of features, not {path}")
    (bag,) = extract_slides([SlideJob(path, mpp=mpp)], patches_of(card, weights))
    return bag


def record_for(
    path: Path, card: Card, manifest: Path | None, *, needed: bool = True
) -> Record | None:
    """Return the record of the patient whose slide, or features, a manifest has at `path`.

    None where no manifest is given, or the model reads no records and none is `needed`.

    Raises
    ------
    ValueError
        As `patient_for`.
    """
    if manifest is None or not (needed or card.record is not None):
        return None
    return patient_for(path, card, manifest).record


def patient_for(path: Path, card: Card, manifest: Path) -> Patient:
    """Return the patient whose slide, or features, a manifest has at `path`.

    Raises
    ------
    ValueError
        If the model reads no records, or the manifest has no such slide.
    """
    if card.record is None:
        raise ValueError(f"--manifest {manifest}: {card.model} reads no clinical record")
    patient = read_cohort(manifest, card.record.clinical).owner(path)
    if patient is None:
        raise ValueError(f"{manifest} has no slide {path.stem!r}")
    return patient


def opening(
    path: Path | None,
    checkpoint: Path | None,
    features: Path | None,
    manifest: Path | None,
    patient: str | None,
) -> Opening:
    """Return what a window is to show: a slide, or a patient of a study.

    Raises
    ------
    ValueError
        As `record_for`, if a manifest is given without slide or model, or a patient without a
        study.
    """
    if path is not None and is_study(path):
        return Opening(study=path, patient=patient or "", checkpoint=checkpoint)
    if patient is not None:
        raise ValueError(f"--patient {patient} is of a study: give its folder in place of a slide")
    case = None
    if manifest is not None:
        if path is None or checkpoint is None:
            raise ValueError(f"--manifest {manifest} is for a slide that a model is asked about")
        case = _case(path, load_checkpoint(checkpoint)[1], manifest)
    return Opening(path, features, case, checkpoint=checkpoint)


def _case(path: Path, card: Card, manifest: Path) -> Case | None:
    """Return the patient whose slide a manifest has at `path`, among the others."""
    record = record_for(path, card, manifest)
    if record is None or card.record is None:
        return None
    schema = card.record.clinical
    cohort = [one.record for one in read_cohort(manifest, schema).patients if one.record]
    return Case("", schema, record, cohort=tuple(cohort))


def predicted(
    checkpoint: Path,
    path: Path,
    weights: Path | None,
    slide_mpp: float | None,
    patch_size: int | None,
    manifest: Path | None = None,
) -> Prediction:
    """Return what a model says of a slide, or of a file of features."""
    return answered(checkpoint, path, weights, slide_mpp, patch_size, manifest)[1]


def explained(
    checkpoint: Path,
    path: Path,
    weights: Path | None,
    slide_mpp: float | None,
    patch_size: int | None,
    manifest: Path | None,
    *,
    area: Region | None,
    looks: int | None,
) -> Prediction:
    """Return what a model says, with its maps of an area, or after some looks, if given.

    A study in place of a manifest may be given for models that read no records: it then says
    whose slide it is.

    Raises
    ------
    ValueError
        If both are.
    """
    if area is not None and looks is not None:
        raise ValueError("--looks asks about the slide, --query and --area about a place: give one")
    given = (checkpoint, path, weights, slide_mpp, patch_size, manifest)
    model, found = answered(*given, needed=manifest is None or not is_study(manifest))
    if looks is not None:
        return after_looks(model, found, looks)
    return found if area is None else ask(model, found, area)


def answered(
    checkpoint: Path,
    path: Path,
    weights: Path | None,
    slide_mpp: float | None,
    patch_size: int | None,
    manifest: Path | None = None,
    *,
    needed: bool = True,
) -> tuple[MILModel, Prediction]:
    """Return a model, and what it says of a slide or of a file of features."""
    model, card = load_checkpoint(checkpoint)
    record = record_for(path, card, manifest, needed=needed)
    bag = bag_for(path, card, weights, slide_mpp, patch_size)
    closer = closer_for(type(model), weights)
    if closer is not None and not is_features(path):
        bag = closer(SlideRow(path.stem, slide_path=path, mpp=slide_mpp), bag)
    return model, predict(model, card, bag, record)
