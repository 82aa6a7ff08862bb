"""Agreement between an encoder and a file: 1 for the same, chance for another slide's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.bags.agreement import Agreement, agreement, cosine
from napari_wsimil.bags.bag import Bag
from napari_wsimil.bags.encoders import create_encoder
from napari_wsimil.bags.features import extract_features
from napari_wsimil.space.grid import PatchGrid
from napari_wsimil.space.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path

CORNERS = np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).reshape(-1, 2) * 224
GRID = PatchGrid(CORNERS, 224, 224, 224)


def drain(work: object) -> object:
    while True:
        try:
            next(work)  # type: ignore[call-overload]
        except StopIteration as stop:
            return stop.value


@pytest.fixture(scope="module")
def bag(coded_slide: Path) -> Bag:
    with open_slide(coded_slide) as slide:
        found = drain(extract_features(slide, GRID, create_encoder()))
    assert isinstance(found, Bag)
    return found


def agree(coded_slide: Path, bag: Bag, patches: int = 256) -> Agreement:
    with open_slide(coded_slide) as slide:
        found = drain(agreement(slide, bag, create_encoder(), patches))
    assert isinstance(found, Agreement)
    return found


def test_the_same_encoder_agrees_wholly(coded_slide: Path, bag: Bag) -> None:
    found = agree(coded_slide, bag)
    assert (found.patches, found.median, found.fifth) == (12, pytest.approx(1), pytest.approx(1))
    assert found.chance < 1 - 1e-4


def test_features_in_another_order_fall_to_chance(coded_slide: Path, bag: Bag) -> None:
    shuffled = replace(bag, features=bag.features.roll(5, 0))
    assert agree(coded_slide, shuffled).median < 1 - 1e-4


def test_one_wrong_patch_in_twelve_shows_in_the_tail_alone(coded_slide: Path, bag: Bag) -> None:
    rows = bag.features.clone()
    rows[3] = -rows[3]
    found = agree(coded_slide, replace(bag, features=rows))
    assert found.median == pytest.approx(1)
    assert found.fifth < 0.5


def test_no_more_patches_are_encoded_than_asked_for(coded_slide: Path, bag: Bag) -> None:
    assert agree(coded_slide, bag, patches=5).patches == 5


def test_what_cannot_be_compared_is_refused(coded_slide: Path, bag: Bag) -> None:
    with pytest.raises(ValueError, match="no places"):
        agree(coded_slide, replace(bag, grid=None))
    with pytest.raises(ValueError, match="gives 104 numbers for a patch, the file has 3"):
        agree(coded_slide, replace(bag, features=torch.zeros(12, 3)))
    with pytest.raises(ValueError, match="of another slide"):
        agree(coded_slide, replace(bag, slide="0000"))


def test_cosine_is_that_of_each_row() -> None:
    a = np.array([[3, 4], [0, 0], [1, 1]], np.float32)
    b = np.array([[6, 8], [1, 2], [1, -1]], np.float32)
    expected = []
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        length = (sum(v * v for v in x) * sum(v * v for v in y)) ** 0.5
        dot = sum(v * w for v, w in zip(x, y, strict=True))
        expected.append(dot / length if length else 0.0)
    assert cosine(a, b).tolist() == pytest.approx(expected)
