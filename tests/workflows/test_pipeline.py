"""One pipeline makes a bag of a slide or of a features file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_wsimil.features.store import load_bag
from napari_wsimil.models.base import Need
from napari_wsimil.progress import Progress, finish
from napari_wsimil.slides import slide as module
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.synthetic import SlideRecipe, write_phantom
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.analysis import PartialMap, analyze_job
from napari_wsimil.workflows.demo import MODELS
from napari_wsimil.workflows.pipeline import (
    BagOptions,
    PatchSettings,
    bag_of,
    encode_slide,
    model_job,
)
from napari_wsimil.workflows.progress import Remark, convert

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work


@pytest.fixture(scope="module")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "slide.tiff"
    size = {"width": 1536, "height": 1536, "pieces": 1, "folds": 0, "pen_marks": 0}
    finish(write_phantom(path, SlideRecipe(seed=1, lesions={}, **size)))
    return path


@pytest.fixture(scope="module")
def card() -> Card:
    return load_checkpoint(MODELS / "acmil.safetensors")[1]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of the slides that were opened."""
    paths: list[Path] = []
    open_reader = module.open_reader
    monkeypatch.setattr(module, "open_reader", lambda path: paths.append(path) or open_reader(path))
    return paths


def test_a_slide_and_the_file_of_its_features_give_the_same_bag(
    slide_path: Path, card: Card, tmp_path: Path, opened: list[Path]
) -> None:
    target = tmp_path / "features" / "slide.h5"
    bag = finish(bag_of(str(slide_path), card))
    assert len(opened) == 1
    with open_slide(slide_path) as slide:
        finish(encode_slide(slide, PatchSettings.of(card), target=str(target)))
    for other in (load_bag(target), finish(bag_of(str(target), card))):
        assert torch.equal(other.features, bag.features)
        assert other.encoder == bag.encoder == card.encoder


def test_the_license_and_the_cost_are_remarks_before_the_first_patch(
    slide_path: Path, card: Card
) -> None:
    steps = list(bag_of(slide_path, card))
    remarks = [step.remark for step in steps if isinstance(step, Remark)]
    assert "license" in remarks[0]
    assert "hours" in remarks[1]
    assert all(isinstance(step, Remark) for step in steps[:2])
    assert steps[-1].share == 1


def test_a_model_without_coordinates_is_refused_before_the_slide_is_opened(
    slide_path: Path, card: Card, opened: list[Path]
) -> None:
    unknown = card.model_copy(update={"mpp": None})
    with pytest.raises(ValueError, match="features without coordinates"):
        finish(bag_of(slide_path, unknown))
    with pytest.raises(ValueError, match="--patch-size 256 is for a file of features"):
        finish(bag_of(slide_path, card, BagOptions(patch_size=256)))
    assert opened == []


def test_sub_patches_are_read_from_the_slide_that_was_encoded(
    slide_path: Path, card: Card, opened: list[Path]
) -> None:
    bag = finish(bag_of(slide_path, card, needs={Need.FINER}))
    assert callable(bag.finer)
    assert bag.finer(0).shape == (16, bag.features.shape[1])
    assert len(opened) == 1


@pytest.mark.parametrize("method", ["acmil", "sasha"])
def test_a_run_opens_the_slide_once_beside_the_one_that_is_shown(
    slide_path: Path, opened: list[Path], method: str
) -> None:
    model = finish(model_job(MODELS / f"{method}.safetensors"))
    with open_slide(slide_path) as slide:
        opened.clear()
        steps, job = [], analyze_job(slide, model, None, None)
        analysis = finish(convert(job, lambda step: steps.append(step) or step))
        assert len(opened) == 1
    episodes = [step.episode for step in steps if isinstance(step, PartialMap) and step.episode]
    assert bool(episodes) == (method == "sasha")
    assert analysis.prediction.bag.encoder == analysis.bag.encoder


def test_a_converted_work_is_closed_with_its_converter() -> None:
    closed = []

    def work() -> Work[int]:
        try:
            yield Progress(1, 2)
            yield Progress(2, 2)
        finally:
            closed.append(True)
        return 7

    changed = convert(work(), lambda step: Progress(step.done, step.total, "text"))
    assert next(changed) == Progress(1, 2, "text")
    changed.close()
    assert closed == [True]
    assert finish(convert(work(), lambda step: step)) == 7
