"""Tissue is found on glass and in full fields; ink, dust and empty slides are not tissue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from napari_wsimil.slides.geometry import MppSource, Resolution
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import Tissue, find_tissue

if TYPE_CHECKING:
    from pathlib import Path

PINK, PURPLE, GLASS = (215, 150, 190), (120, 70, 150), (242, 241, 243)
BLUE_INK, GREEN_INK, BLACK_INK = (40, 60, 170), (30, 130, 70), (25, 25, 28)


@dataclass
class Picture:
    """A slide of which only the thumbnail matters."""

    pixels: np.ndarray
    downsample: float = 32.0
    resolution: Resolution = field(default_factory=lambda: Resolution(0.25, MppSource.HEADER))
    name: str = "case-7"

    def thumbnail(self, max_side: int = 2048) -> tuple[np.ndarray, float]:
        return self.pixels, self.downsample


def paint(*boxes: tuple[slice, slice, tuple[int, int, int]]) -> Picture:
    """A picture of glass with noise, with boxes of color on it."""
    noise = np.random.default_rng(0).integers(-6, 7, (300, 400, 1))
    picture = np.full((300, 400, 3), GLASS, dtype=np.int64)
    for rows, columns, color in boxes:
        picture[rows, columns] = color
    return Picture(np.clip(picture + noise, 0, 255).astype(np.uint8))


BOX = (slice(50, 250), slice(80, 320))


def test_a_box_of_tissue_on_glass_is_found_to_the_pixel_or_two() -> None:
    tissue = find_tissue(paint((*BOX, PINK)))
    expected = np.zeros((300, 400), dtype=bool)
    expected[BOX] = True
    assert (tissue.mask != expected).mean() < 0.015
    assert tissue.mask[52:248, 82:318].all()


def test_pale_tissue_beside_dark_tissue_is_kept() -> None:
    pale = (225, 200, 215)
    half = (slice(50, 250), slice(200, 320), pale)
    assert find_tissue(paint((*BOX, PURPLE), half)).mask[60:240, 210:310].all()


def test_a_field_full_of_tissue_is_not_cut_in_two() -> None:
    full = (slice(0, 300), slice(0, 400), PINK)
    nuclei = (slice(0, 300), slice(0, 200), PURPLE)
    assert find_tissue(paint(full, nuclei)).mask.mean() > 0.99


def test_glass_alone_is_no_tissue() -> None:
    assert not find_tissue(paint()).mask.any()
    assert not find_tissue(Picture(np.full((50, 60, 3), 255, dtype=np.uint8))).mask.any()


@pytest.mark.parametrize("ink", [BLUE_INK, GREEN_INK, BLACK_INK])
def test_ink_is_not_tissue_and_tissue_beside_it_stays(ink: tuple[int, int, int]) -> None:
    stroke = (slice(20, 280), slice(340, 360), ink)
    across = (slice(100, 112), slice(80, 320), ink)
    mask = find_tissue(paint((*BOX, PINK), stroke, across)).mask
    assert not mask[:, 335:365].any()
    assert not mask[102:110, 90:310].any()
    assert mask[60:92, 90:310].all()


def test_small_holes_are_filled_large_ones_stay_and_dust_goes() -> None:
    hole = (slice(100, 110), slice(100, 110), GLASS)
    lumen = (slice(150, 200), slice(150, 200), GLASS)
    dust = (slice(10, 18), slice(10, 18), PINK)
    mask = find_tissue(paint((*BOX, PINK), hole, lumen, dust)).mask
    assert mask[100:110, 100:110].all()
    assert not mask[155:195, 155:195].any()
    assert not mask[:30, :30].any()


def test_the_answer_is_the_same_each_time() -> None:
    picture = paint((*BOX, PINK))
    assert_array_equal(find_tissue(picture).mask, find_tissue(picture).mask)


def test_area_is_in_square_millimeters_or_unknown() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[:5] = True
    assert Tissue(mask, 40.5, 0.25).area_mm2 == pytest.approx(50 * (40.5 * 0.25e-3) ** 2)
    assert Tissue(mask, 40.5).area_mm2 is None


def test_share_is_the_area_of_tissue_even_within_a_pixel_of_the_mask() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1:3, 1:3] = True
    tissue = Tissue(mask, downsample=100.0)
    coords = np.array([[0, 0], [100, 100], [150, 150], [50, 110], [20, 20]])
    shares = tissue.share(coords, 100)
    assert_allclose(shares, [0, 1, 1, 0.5, 0.04], atol=1e-9)
    assert_allclose(tissue.share(coords[:1], 400), [0.25])


def test_a_real_field_of_tissue_and_its_margin_ink(small_slide: Path) -> None:
    with open_slide(small_slide) as slide:
        tissue = find_tissue(slide)
        picture, _ = slide.thumbnail()
    assert tissue.area_mm2 == pytest.approx(0.57, abs=0.06)
    teal = picture[..., 1].astype(int) - picture[..., 0] > 12
    assert tissue.mask[teal].mean() < 0.4
    glass = picture.min(axis=2) > 232
    assert tissue.mask[glass].mean() < 0.07
    stained = (picture[..., 0].astype(int) - picture[..., 1]) > 40
    assert tissue.mask[stained].mean() > 0.97
