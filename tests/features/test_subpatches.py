"""Fine features: which pixels a sub-patch has, and what the encoder was asked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from windows import handles

from napari_wsimil.features.bag import Bag, take_patches
from napari_wsimil.features.encoders.base import EncoderCard, PatchEncoder
from napari_wsimil.features.subpatches import FineFeatures, own_finer, with_finer
from napari_wsimil.models.sasha import SASHA
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_wsimil.slides.slide import Slide

CELL = 8  # pixels of the coded slide that have one color


class FirstPixel(PatchEncoder):
    """Gives the color of the upper left pixel, and remembers how many images it saw."""

    def __init__(self) -> None:
        card = EncoderCard("first", "0" * 64, 3, CELL, None, (0, 0, 0), (1, 1, 1), "none")
        super().__init__(card, largest_batch=3)
        self.batches: list[int] = []

    def encode(self, patches: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(patches))
        return patches[:, 0, 0]


@pytest.fixture
def slide(coded_slide: Path) -> Iterator[Slide]:
    with open_slide(coded_slide) as opened:
        yield opened


@pytest.fixture
def grid() -> PatchGrid:
    coords = np.array([[0, 0], [320, 64], [64, 320]], dtype=np.int64)
    return PatchGrid(coords, patch_size=32, stride=32, pixels=8, mpp=2.0)


@pytest.fixture
def encoder() -> FirstPixel:
    return FirstPixel()


@pytest.fixture
def bag(slide: Slide, grid: PatchGrid, encoder: FirstPixel) -> Bag:
    return Bag(torch.ones(3, 3), encoder.card.identity, grid, slide=slide.fingerprint)


def test_sub_patches_come_column_by_column(
    slide: Slide, grid: PatchGrid, encoder: FirstPixel
) -> None:
    found = FineFeatures(slide, grid, encoder, side=4)(1)
    cells = [(320 // CELL + right, 64 // CELL + down) for right in range(4) for down in range(4)]
    assert [tuple(row) for row in found[:, :2].int().tolist()] == cells
    assert FineFeatures(slide, grid, encoder, side=2).corners(2) == [
        (64, 320),
        (64, 336),
        (80, 320),
        (80, 336),
    ]


def test_every_image_the_encoder_saw_is_counted_in_batches_it_can_take(
    slide: Slide, grid: PatchGrid, encoder: FirstPixel
) -> None:
    finer = FineFeatures(slide, grid, encoder, side=2)
    assert finer.calls == 0
    for patch in (0, 2, 2):
        assert finer(patch).shape == (4, 3)
    assert finer.calls == sum(encoder.batches) == 12
    assert max(encoder.batches) == 3


def test_the_pixel_size_of_a_sub_patch_is_told(
    slide: Slide, grid: PatchGrid, encoder: FirstPixel
) -> None:
    assert FineFeatures(slide, grid, encoder, side=4).mpp == pytest.approx(0.5)
    assert FineFeatures(slide, grid, encoder, side=2).mpp == pytest.approx(1.0)
    assert FineFeatures(slide, replace(grid, mpp=None), encoder).mpp is None


@pytest.mark.parametrize("side", [0, 3])
def test_patches_without_whole_parts_are_refused(
    slide: Slide, grid: PatchGrid, encoder: FirstPixel, side: int
) -> None:
    with pytest.raises(ValueError, match=f"divided into {side} whole"):
        FineFeatures(slide, grid, encoder, side)


def test_a_model_that_looks_reads_only_where_it_looks(
    slide: Slide, encoder: FirstPixel, bag: Bag
) -> None:
    closer = with_finer(bag, slide, encoder, side=2)
    torch.manual_seed(0)
    output = SASHA(feature_dim=3, classes=2, budget=0.5).eval()(closer)
    assert closer.finer.calls == 2 * 4
    assert output.scalars["encoder calls"] == 3 + closer.finer.calls


def test_a_bag_of_another_encoder_or_slide_or_without_places_is_refused(
    slide: Slide, encoder: FirstPixel, bag: Bag
) -> None:
    wrong = {
        "no coordinates": replace(bag, grid=None),
        "use one encoder": replace(bag, encoder="other@0"),
        "another slide": replace(bag, slide="0" * 16),
    }
    for said, other in wrong.items():
        with pytest.raises(ValueError, match=said):
            with_finer(other, slide, encoder)


def test_own_features_outlive_their_slide_and_leave_its_tiles_alone(
    coded_slide: Path, encoder: FirstPixel, bag: Bag
) -> None:
    with open_slide(coded_slide, mpp=0.7) as slide:
        plain = with_finer(bag, slide, encoder, side=2).finer(1)
        used = slide.cache.used
        own = own_finer(bag, slide, encoder, 2**20, side=2)
        own(2)
        assert slide.cache.used == used
    assert own.calls == 4
    torch.testing.assert_close(own(1), plain, rtol=0, atol=0)


def test_the_file_is_open_while_a_part_of_the_bag_lives(
    coded_slide: Path, slide: Slide, encoder: FirstPixel, bag: Bag
) -> None:
    before = handles(coded_slide)
    whole = replace(bag, finer=own_finer(bag, slide, encoder, 2**20))
    held = handles(coded_slide)
    part = take_patches(whole, torch.tensor([2]))
    del whole
    assert handles(coded_slide) == held > before
    assert part.finer(0).shape == (16, 3)
    del part
    assert handles(coded_slide) == before


def test_own_features_can_be_closed_by_hand(
    coded_slide: Path, slide: Slide, encoder: FirstPixel, bag: Bag
) -> None:
    before = handles(coded_slide)
    own = own_finer(bag, slide, encoder, 2**20)
    own.close()
    own.close()
    assert handles(coded_slide) == before
    with pytest.raises(SlideError, match="closed"):
        own(0)
    assert not slide.closed


def test_another_slide_in_the_place_of_the_first_is_not_read(
    coded_slide: Path, small_slide: Path, encoder: FirstPixel, bag: Bag, tmp_path: Path
) -> None:
    path = tmp_path / "slide.svs"
    shutil.copyfile(coded_slide, path)
    with open_slide(path) as slide:
        path.unlink()
        shutil.copyfile(small_slide, path)
        with pytest.raises(ValueError, match="was replaced by another slide since"):
            own_finer(bag, slide, encoder, 2**20)
    assert handles(path) == 0
