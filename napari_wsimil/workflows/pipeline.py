"""Work: the long jobs of the window as plain generators; knows no Qt.

Each yields `Step`s for a progress bar and returns its result. A slide whose patches are all
read in the background is opened a second time with a small cache of its own, so that
browsing keeps its tiles.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_wsimil.gui.session import LoadedModel
from napari_wsimil.gui.viewer.slide_layers import UNDERLAY_SIDE
from napari_wsimil.progress import Progress
from napari_wsimil.slides.slide import Slide, open_slide
from napari_wsimil.slides.tissue import Tissue, find_tissue
from napari_wsimil.workflows.progress import Pace

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.color_scale import Stretch
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.explain.predict import Step as Seen
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.features.extraction import Estimate
    from napari_wsimil.slides.patch_grid import PatchGrid

#: Seconds between two partial maps while features are made.
MAP_INTERVAL = 0.1
#: Largest share of a job's time that goes into them.
MAP_SHARE = 0.1
#: Bytes of tiles kept of a slide that is opened once more in the background.
WORK_CACHE = 64 * 2**20


@dataclass(frozen=True)
class Step:
    """How far a job is; `total` is 0 while nobody knows.

    Attributes
    ----------
    partial
        A map that still fills in.
    seen
        What a model that looks step by step has seen by now.
    """

    text: str
    done: int = 0
    total: int = 0
    partial: Prediction | None = None
    seen: Seen | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """An extraction before it starts, and what it takes on this machine."""

    encoder: PatchEncoder
    grid: PatchGrid
    path: Path
    cost: Estimate


Job = Generator[Step | Progress, None, object]
Result = TypeVar("Result")


def stepwise(
    text: str, work: Generator[tuple[int, int], None, Result]
) -> Generator[Step, None, Result]:
    """Return what comes of work that tells how much of how much is done."""
    while True:
        try:
            done, total = next(work)
        except StopIteration as finished:
            result: Result = finished.value
            return result
        yield Step(text, done, total)


def open_job(path: Path, mpp: float | None = None) -> Generator[Step, None, Slide]:
    """Return a slide whose first picture is already in its cache."""
    yield Step("opening the slide")
    slide = open_slide(path, mpp=mpp)
    with ExitStack() as undo:
        undo.callback(slide.close)
        yield Step("reading an overview")
        slide.thumbnail(UNDERLAY_SIDE)
        np.asarray(slide.display_levels[-1])
        undo.pop_all()
    return slide


def model_job(path: Path) -> Generator[Step, None, LoadedModel]:
    """Return the model in a checkpoint."""
    yield Step("loading the model")
    from napari_wsimil.training.checkpoint import load_checkpoint

    model, card = load_checkpoint(path)
    return LoadedModel(model, card, path.stem)


def tissue_job(slide: Slide) -> Generator[Step, None, Tissue]:
    """Return the tissue of a slide."""
    yield Step("finding tissue")
    return find_tissue(slide)


def plan_job(
    slide: Slide, grid: PatchGrid, name: str, weights: Path | None, path: Path
) -> Generator[Step, None, Plan]:
    """Return the plan of an extraction into `path`, its cost measured on a few patches."""
    yield Step("loading the encoder")
    from napari_wsimil.features.encoders.factory import create_encoder
    from napari_wsimil.features.extraction import estimate

    encoder = create_encoder(name, weights)
    yield Step("measuring how long it takes")
    return Plan(encoder, grid, path, estimate(slide, grid, encoder))


def extract_job(
    slide: Slide,
    grid: PatchGrid,
    encoder: PatchEncoder,
    path: Path | None = None,
    model: LoadedModel | None = None,
    record: Record | None = None,
) -> Generator[Step, None, Bag]:
    """Return the features of a slide; with a model that takes them, its map grows too.

    The map so far comes in `Step.partial`.
    """
    from napari_wsimil.features.extraction import extract_features
    from napari_wsimil.models.base import Need

    if model is not None and (
        model.card.encoder != encoder.card.identity or Need.FINER in model.model.needs
    ):
        model = None
    features = np.full((len(grid), encoder.card.dim), np.nan, np.float32)
    pace = Pace(MAP_INTERVAL, MAP_SHARE)
    with open_slide(slide.path, slide.resolution.mpp, WORK_CACHE) as source:
        work = extract_features(source, grid, encoder, path)
        try:
            while True:
                now = next(work)
                features[now.start : now.start + len(now.rows)] = now.rows
                partial = None
                if model is not None and now.done and pace.due:
                    with pace:
                        rows = features[: now.done]
                        partial = _so_far(model, rows, grid, encoder, slide, record)
                yield Step("encoding patches", now.done, now.total, partial)
        except StopIteration as finished:
            bag: Bag = finished.value
            return bag
        finally:
            work.close()


def extract_and_ask_job(
    slide: Slide, plan: Plan, model: LoadedModel | None, record: Record | None = None
) -> Generator[Step, None, tuple[Bag, Prediction | None]]:
    """Return the features of a slide, and what a model says of them if it takes them."""
    from napari_wsimil.explain.predict import predict
    from napari_wsimil.models.base import Need

    bag = yield from extract_job(slide, plan.grid, plan.encoder, plan.path, model, record)
    if model is None or model.card.encoder != bag.encoder or Need.FINER in model.model.needs:
        return bag, None
    yield Step("asking the model", len(bag), len(bag))
    return bag, predict(model.model, model.card, bag, record)


def export_job(
    prediction: Prediction, path: Path, name: str, stretch: Stretch
) -> Generator[Step, None, Path]:
    """Return the file that a prediction's maps were written to."""
    yield Step("writing the map")
    from napari_wsimil.explain.export import export_map

    return export_map(prediction, path, name, stretch)


def _so_far(
    model: LoadedModel,
    features: NDArray[np.float32],
    grid: PatchGrid,
    encoder: PatchEncoder,
    slide: Slide,
    record: Record | None,
) -> Prediction:
    """Return what the model says of the patches encoded so far."""
    import torch

    from napari_wsimil.explain.predict import predict
    from napari_wsimil.features.bag import Bag

    bag = Bag(
        torch.from_numpy(features.copy()),
        encoder=encoder.card.identity,
        grid=replace(grid, coords=grid.coords[: len(features)]),
        synthetic=slide.synthetic,
        slide=slide.fingerprint,
        reading=slide.reading,
    )
    found = predict(model.model, model.card, bag, record)
    note = f"so far: {len(features)} of {len(grid)} patches"
    return replace(found, warnings=(*found.warnings, note))
