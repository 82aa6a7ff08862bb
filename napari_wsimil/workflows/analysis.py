"""Analysis: predict an open slide, with partial maps while it is encoded or explored.

A slide that is shown is opened a second time for this, with a small cache of its own, so that
browsing keeps its tiles: at most once per run.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.export import export_map
from napari_wsimil.explain.predict import EpisodeProgress, explore, predict
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.encoders.factory import BUILT_IN, create_encoder
from napari_wsimil.features.extraction import EncodedBatch, estimate, extract_features
from napari_wsimil.features.subpatches import own_finer, owning_finer
from napari_wsimil.models.base import Need
from napari_wsimil.models.protocols import SequentialModel
from napari_wsimil.progress import Progress
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.workflows.pipeline import PatchSettings, grid_job, model_job, tissue_job
from napari_wsimil.workflows.progress import RateLimiter, convert

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.color_scale import Stretch
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.features.extraction import Estimate
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue

#: Seconds between two partial maps.
MAP_INTERVAL = 0.1
#: Largest share of a job's time that goes into them.
MAP_SHARE = 0.1
#: Bytes of tiles kept of the second opening of a slide.
WORK_CACHE = 64 * 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class PartialMap(Progress):
    """Progress of a run, with its results so far.

    Attributes
    ----------
    prediction
        Of the patches or steps so far; None where it is not due yet.
    episode
        The steps so far, of a model that explores.
    """

    prediction: Prediction | None = None
    episode: EpisodeProgress | None = None


@dataclass(frozen=True, eq=False)
class Analysis:
    """Tissue, bag and prediction of a slide."""

    tissue: Tissue
    bag: Bag
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class ExtractionPlan:
    """An extraction before it starts, and its cost on this machine."""

    encoder: PatchEncoder
    grid: PatchGrid
    path: Path
    cost: Estimate


def analyze_job(
    slide: Slide,
    model: LoadedModel,
    tissue: Tissue | None,
    bag: Bag | None,
    record: Record | None = None,
) -> Work[Analysis]:
    """Predict a slide, starting from the tissue and bag that are there already.

    Without features the slide is cut and encoded as the model's training slides. Partial
    predictions come as `PartialMap`. Sub-patches are read from the second opening of the file,
    which stays open until the slide or the bag is closed.

    Raises
    ------
    SlideError
        At the next step after the slide was closed, when the result is of no use.
    """
    job = _analysis(slide, model, tissue, bag, record)
    with closing(job):
        while not slide.closed:
            try:
                step = next(job)
            except StopIteration as finished:
                analysis: Analysis = finished.value
                return analysis
            yield step
    raise SlideError("the slide was closed, which ended the run")


def _analysis(
    slide: Slide,
    model: LoadedModel,
    tissue: Tissue | None,
    bag: Bag | None,
    record: Record | None,
) -> Work[Analysis]:
    card = model.card
    with ExitStack() as opened:
        source = None
        if bag is None:
            settings = PatchSettings.of(card)
            encoder = create_encoder(_without_weights(card))
            tissue, grid = yield from grid_job(slide, settings, tissue)
            source = opened.enter_context(_open_again(slide))
            bag = yield from _encoded(source, grid, encoder, None, model, record)
        elif tissue is None:
            tissue = yield from tissue_job(slide)
        yield Progress(len(bag), len(bag), "asking the model")
        bag = yield from _with_finer(slide, model, bag, source, opened)
    if isinstance(model.model, SequentialModel):
        return Analysis(tissue, bag, (yield from _explored(model, bag)))
    return Analysis(tissue, bag, predict(model.model, card, bag, record))


def _open_again(slide: Slide) -> Slide:
    return open_slide(slide.path, slide.resolution.mpp, WORK_CACHE)


def _encoded(
    source: Slide,
    grid: PatchGrid,
    encoder: PatchEncoder,
    path: Path | None,
    model: LoadedModel | None,
    record: Record | None,
) -> Work[Bag]:
    """Encode a slide; a model that accepts its features predicts the patches so far."""
    if model is not None and not _accepts(model, encoder.card.identity):
        model = None
    features = np.full((len(grid), encoder.card.dim), np.nan, np.float32)
    pace = RateLimiter(MAP_INTERVAL, MAP_SHARE)

    def show(batch: Progress) -> PartialMap:
        partial = None
        if isinstance(batch, EncodedBatch):
            features[batch.start : batch.start + len(batch.rows)] = batch.rows
        if model is not None and batch.done and pace.due:
            with pace:
                rows = features[: batch.done]
                partial = _predicted_so_far(model, rows, grid, encoder, source, record)
        return PartialMap(batch.done, batch.total, "encoding patches", prediction=partial)

    return (yield from convert(extract_features(source, grid, encoder, path), show))


def _accepts(model: LoadedModel, encoder: str) -> bool:
    """Return whether a model can predict features of an encoder without sub-patches."""
    return model.card.encoder == encoder and Need.FINER not in model.model.needs


def _predicted_so_far(
    model: LoadedModel,
    features: NDArray[np.float32],
    grid: PatchGrid,
    encoder: PatchEncoder,
    slide: Slide,
    record: Record | None,
) -> Prediction:
    bag = Bag(
        torch.from_numpy(features.copy()),
        encoder=encoder.card.identity,
        grid=replace(grid, coords=grid.coords[: len(features)]),
        synthetic=slide.synthetic,
        slide=slide.fingerprint,
        reading=slide.reading,
    )
    prediction = predict(model.model, model.card, bag, record)
    note = f"so far: {len(features)} of {len(grid)} patches"
    return replace(prediction, warnings=(*prediction.warnings, note))


def _with_finer(
    slide: Slide, model: LoadedModel, bag: Bag, source: Slide | None, opened: ExitStack
) -> Work[Bag]:
    """Return the bag with sub-patch features, if the model needs them.

    A model that explores reads them step by step, another one all at once. `source` in
    `opened` is read where there is one.
    """
    if Need.FINER not in model.model.needs:
        return bag
    if bag.finer is None and is_blank(slide):
        raise ValueError(f"{model.card.model} looks closer at the slide, and here is none")
    if bag.finer is None:
        encoder = create_encoder(_without_weights(model.card))
        if source is None:
            finer = own_finer(bag, slide, encoder, WORK_CACHE)
        else:
            finer = owning_finer(bag, source, encoder)
            opened.pop_all()  # `finer` closes it
        slide.close_too(finer.close)
        bag = replace(bag, finer=finer)
    if isinstance(model.model, SequentialModel) or not callable(bag.finer):
        return bag
    rows = []
    for patch in range(len(bag)):
        yield Progress(patch, len(bag), "reading sub-patches")
        rows.append(bag.finer(patch))
    return replace(bag, finer=torch.stack(rows))


def _explored(model: LoadedModel, bag: Bag) -> Work[Prediction]:
    """Return the prediction of a model that explores, its trajectory growing as it goes."""
    pace = RateLimiter(MAP_INTERVAL, MAP_SHARE)

    def show(step: Progress) -> PartialMap:
        partial, episode = None, step if isinstance(step, EpisodeProgress) else None
        if episode is not None and pace.due:
            with pace:
                partial = _unfinished(episode)
        return PartialMap(step.done, step.total, "looking", prediction=partial, episode=episode)

    return (yield from convert(explore(model.model, model.card, bag), show))


def seen_job(episode: EpisodeProgress) -> Work[Prediction]:
    """Return the prediction after the steps of an episode that was stopped."""
    yield Progress(episode.done, episode.total, "laying together what was seen")
    return _unfinished(episode)


def _unfinished(episode: EpisodeProgress) -> Prediction:
    prediction = episode.so_far()
    note = f"so far: {episode.done} of {episode.total} looks, the rest was not examined"
    return replace(prediction, warnings=(*prediction.warnings, note))


def _without_weights(card: Card) -> str:
    """Return the name of a model's encoder, if it needs no file of weights."""
    name = card.encoder.partition("@")[0]
    if name != BUILT_IN:
        raise ValueError(
            f"the model takes features of {name}, whose weights are a file: make them in the "
            "Slide dock (Features) with that file, or open those made before, then run"
        )
    return name


def plan_job(
    slide: Slide, grid: PatchGrid, name: str, weights: Path | str | None, path: Path | str
) -> Work[ExtractionPlan]:
    """Plan an extraction into `path`; its cost is measured on a few patches."""
    weights = None if weights is None else Path(weights)
    path = Path(path)
    yield Progress(text="loading the encoder")
    encoder = create_encoder(name, weights)
    yield Progress(text="measuring how long it takes")
    return ExtractionPlan(encoder, grid, path, estimate(slide, grid, encoder))


def extract_and_ask_job(
    slide: Slide, plan: ExtractionPlan, model: LoadedModel | None, record: Record | None = None
) -> Work[tuple[Bag, Prediction | None]]:
    """Encode a slide as planned; return its bag, and the prediction of a model that accepts it."""
    with _open_again(slide) as source:
        bag = yield from _encoded(source, plan.grid, plan.encoder, plan.path, model, record)
    if model is None or not _accepts(model, bag.encoder):
        return bag, None
    yield Progress(len(bag), len(bag), "asking the model")
    return bag, predict(model.model, model.card, bag, record)


def compare_job(
    path: Path | str, bag: Bag, record: Record | None
) -> Work[tuple[LoadedModel, Prediction]]:
    """Load another model; return it with its prediction for the same features."""
    model = yield from model_job(path)
    yield Progress(text="asking the model")
    return model, predict(model.model, model.card, bag, record)


def export_job(prediction: Prediction, path: Path | str, name: str, stretch: Stretch) -> Work[Path]:
    """Write the maps of a prediction; return the file."""
    yield Progress(text="writing the map")
    return export_map(prediction, path, name, stretch)
