"""Agreement between an encoder and a file: 1 for the same, chance for another slide's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.encoders.compare import Agreement, agreement, cosine
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import save_bag
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import open_slide

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
    with pytest.raises(ValueError, match="no coordinates"):
        agree(coded_slide, replace(bag, grid=None))
    with pytest.raises(ValueError, match="has 104 features per patch, the file has 3"):
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


def test_the_command_line_tells_agreement_and_writes_nothing(
    small_slide: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = data / "slides" / "CMU-1-Small-Region_wsidata" / "CMU-1-Small-Region.zarr"
    ours = tmp_path / "own" / "CMU-1-Small-Region.h5"
    assert main(["extract", str(small_slide), "-o", str(ours.parent)]) == 0
    capfd.readouterr()
    assert main(["extract", str(small_slide), "--check", str(ours), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["cosine_median"] == pytest.approx(1)
    assert found["cosine_5th_percentile"] == pytest.approx(1)
    assert found["cosine_of_different_patches"] < 0.95
    assert main(["extract", str(small_slide), "--check", str(theirs)]) == 2
    assert "the file has 1000" in capfd.readouterr().err
    assert main(["extract", str(small_slide)]) == 2
    assert "needs --out" in capfd.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [ours.name]


def test_features_off_the_slide_are_not_compared(
    coded_slide: Path, bag: Bag, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bag.grid is not None
    away = replace(bag, grid=replace(bag.grid, coords=bag.grid.coords + 5000), slide="")
    save_bag(tmp_path / "a.h5", away)
    assert main(["extract", str(coded_slide), "--check", str(tmp_path / "a.h5")]) == 2
    assert "edges check" in capfd.readouterr().err
