"""Analysis: what a model says of a slide, as jobs of the window; knows no Qt."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.predict import explore, predict
from napari_wsimil.features.encoders.factory import BUILT_IN, create_encoder
from napari_wsimil.features.subpatches import own_finer
from napari_wsimil.models.base import Need
from napari_wsimil.models.sasha.protocol import Explorer
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.workflows.pipeline import (
    MAP_INTERVAL,
    MAP_SHARE,
    WORK_CACHE,
    Step,
    extract_job,
    model_job,
    tissue_job,
)
from napari_wsimil.workflows.progress import Pace

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.explain.predict import Step as Seen
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.session import LoadedModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue


@dataclass(frozen=True)
class Cut:
    """How a slide is cut into patches: µm per pixel, side in pixels, share of overlap."""

    mpp: float = 0.5
    pixels: int = 224
    overlap: float = 0.0


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a job found out about a slide."""

    tissue: Tissue
    bag: Bag
    prediction: Prediction


def analyze_job(
    slide: Slide,
    model: LoadedModel,
    tissue: Tissue | None,
    bag: Bag | None,
    record: Record | None = None,
) -> Generator[Step, None, Analysis]:
    """Return what a model says of a slide, made from whatever is there already.

    Without features the slide is cut and encoded as the model's card says. What a model that
    looks step by step has seen so far comes in `Step.seen`, and now and then as a map. Finer
    features are read from the slide's file opened once more, and can be until it is closed.

    Raises
    ------
    SlideError
        At the next step after the slide was closed: nobody waits for the answer any more.
    """
    return _while_open(slide, _analysis(slide, model, tissue, bag, record))


def _while_open(
    slide: Slide, job: Generator[Step, None, Analysis]
) -> Generator[Step, None, Analysis]:
    """Return what a job returns. It is closed, and what it had opened, with the slide."""
    with closing(job):
        while not slide.closed:
            try:
                yield next(job)
            except StopIteration as finished:
                found: Analysis = finished.value
                return found
    raise SlideError("the slide was closed, which ended the run")


def _analysis(
    slide: Slide,
    model: LoadedModel,
    tissue: Tissue | None,
    bag: Bag | None,
    record: Record | None,
) -> Generator[Step, None, Analysis]:
    card = model.card
    if tissue is None:
        tissue = yield from tissue_job(slide)
    if bag is None:
        cut = cut_of(card)
        encoder = create_encoder(_without_weights(card))
        grid = make_grid(slide, tissue, cut.mpp, cut.pixels, cut.overlap)
        bag = yield from extract_job(slide, grid, encoder, None, model, record)
    yield Step("asking the model", len(bag), len(bag))
    bag = yield from _with_finer(slide, model, bag)
    if isinstance(model.model, Explorer):
        return Analysis(tissue, bag, (yield from _explored(model, bag)))
    return Analysis(tissue, bag, predict(model.model, card, bag, record))


def _with_finer(slide: Slide, model: LoadedModel, bag: Bag) -> Generator[Step, None, Bag]:
    """Return the bag with finer features, if the model wants them.

    Where it looks step by step they are read where it looks, else all of them at once.
    """
    if Need.FINER not in model.model.needs:
        return bag
    if bag.finer is None and is_blank(slide):
        raise ValueError(f"{model.card.model} looks closer at the slide, and here is none")
    if bag.finer is None:
        finer = own_finer(bag, slide, create_encoder(_without_weights(model.card)), WORK_CACHE)
        slide.close_too(finer.close)
        bag = replace(bag, finer=finer)
    if isinstance(model.model, Explorer) or not callable(bag.finer):
        return bag
    rows = []
    for patch in range(len(bag)):
        yield Step("reading sub-patches", patch, len(bag))
        rows.append(bag.finer(patch))
    return replace(bag, finer=torch.stack(rows))


def _explored(model: LoadedModel, bag: Bag) -> Generator[Step, None, Prediction]:
    """Return what a model says that looks step by step, its path growing as it goes."""
    pace, looks = Pace(MAP_INTERVAL, MAP_SHARE), explore(model.model, model.card, bag)
    try:
        while True:
            seen = next(looks)
            partial = None
            if pace.due:
                with pace:
                    partial = _unfinished(seen)
            yield Step("looking", seen.done, seen.total, partial, seen)
    except StopIteration as finished:
        found: Prediction = finished.value
        return found
    finally:
        looks.close()


def seen_job(seen: Seen) -> Generator[Step, None, Prediction]:
    """Return what a model says of what it has seen of a slide, after it was stopped."""
    yield Step("laying together what was seen", seen.done, seen.total)
    return _unfinished(seen)


def _unfinished(seen: Seen) -> Prediction:
    found = seen.so_far()
    note = f"so far: {seen.done} of {seen.total} looks, the rest was not examined"
    return replace(found, warnings=(*found.warnings, note))


def _without_weights(card: Card) -> str:
    """Return the name of a model's encoder, if it needs no file of weights."""
    name = card.encoder.partition("@")[0]
    if name != BUILT_IN:
        raise ValueError(
            f"the model takes features of {name}, whose weights are a file: make them in the "
            "Slide dock (Features) with that file, or open those made before, then run"
        )
    return name


def cut_of(card: Card) -> Cut:
    """Return how the slides were cut that a model learned from."""
    if card.mpp is None or card.pixels is None:
        raise ValueError(
            "the model learned from features without places: open this slide's features first"
        )
    return Cut(card.mpp, card.pixels, card.overlap or 0.0)


def compare_job(
    path: Path, bag: Bag, record: Record | None
) -> Generator[Step, None, tuple[LoadedModel, Prediction]]:
    """Return another model, and what it says of features that are there already."""
    model = yield from model_job(path)
    yield Step("asking the model")
    return model, predict(model.model, model.card, bag, record)
