"""Maps lie on their slide right to the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import COORDS, RAW, predicted, prediction
from hypothesis import given
from hypothesis import strategies as st
from napari.layers import Image, Layer, Vectors

from napari_wsimil.explain.color_scale import Stretch, scaled
from napari_wsimil.gui.view_state import Display
from napari_wsimil.gui.viewer import outline_layers, overlays
from napari_wsimil.gui.viewer.outline_layers import outline_layer
from napari_wsimil.gui.viewer.overlays import hatch_layer, map_layer, tissue_layer
from napari_wsimil.gui.viewer.slide_layers import placement, slide_layers
from napari_wsimil.models.base import ExplanationKind
from napari_wsimil.slides.geometry import Region
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import Slide, open_slide
from napari_wsimil.slides.tissue import Tissue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def slide(coded_slide: Path) -> Iterator[Slide]:
    with open_slide(coded_slide) as opened:
        yield opened


def value_at(layer: Image, x: float, y: float, mpp: float = 0.5) -> float:
    """Return what a layer shows at the center of a level-0 pixel."""
    index = np.round(layer.world_to_data((y * mpp, x * mpp))).astype(int)
    inside = (index >= 0).all() and (index < layer.data.shape[:2]).all()
    return float(layer.data[tuple(index)]) if inside else np.nan


def test_opposite_corners_of_every_patch_lie_in_its_color(slide: Slide) -> None:
    layer = Layer.create(*map_layer(slide, predicted(slide), RAW))
    for number, (x, y) in enumerate(COORDS.tolist()):
        assert value_at(layer, x, y) == number + 1
        assert value_at(layer, x + 63, y + 63) == number + 1
    assert np.isnan(value_at(layer, 319, 191))
    assert np.isnan(value_at(layer, 384, 256))
    assert value_at(layer, 63, 0) == 1
    assert value_at(layer, 64, 0) == 2


def test_every_level_of_the_slide_lies_under_the_same_corners(slide: Slide) -> None:
    """A pixel of any level, put in place as napari does, shows the cell that lies there."""
    for step, array in zip(slide.pyramid_tiles.steps, slide.arrays, strict=True):
        downsample = step.level.downsample
        layer = Image(np.asarray(array), rgb=True, **placement(slide, downsample))
        for x, y in COORDS.tolist():
            for corner in ((x + 4, y + 4), (x + 59, y + 59)):
                world = corner[1] * 0.5, corner[0] * 0.5
                row, column = np.round(layer.world_to_data(world)).astype(int)
                seen = layer.data[row, column, :2].astype(int)
                assert np.abs(seen - np.array(corner) // 8).max() <= (0 if downsample <= 2 else 1)


def test_the_multiscale_layer_has_the_units_of_the_map(slide: Slide) -> None:
    underlay, image = (Layer.create(*layer) for layer in slide_layers(slide))
    over = Layer.create(*map_layer(slide, predicted(slide), RAW))
    assert image.units == over.units == underlay.units
    assert str(image.units[0]) == "micrometer"
    np.testing.assert_allclose(image.scale, (0.5, 0.5))


def test_layers_never_show_the_file_name(slide: Slide) -> None:
    assert not any(slide.name in options["name"] for _, options, _ in slide_layers(slide))


def test_a_map_of_another_slide_is_not_drawn(slide: Slide) -> None:
    found = predicted(slide)
    object.__setattr__(found.bag, "slide", "0123456789abcdef")
    with pytest.raises(ValueError, match="another slide"):
        map_layer(slide, found, RAW)


def test_a_map_without_places_is_not_drawn(slide: Slide) -> None:
    with pytest.raises(ValueError, match="no coordinates"):
        map_layer(slide, prediction(ExplanationKind.SCORE, [1.0]), RAW)


def test_tissue_without_patches_is_hatched_and_the_rest_left_clear(slide: Slide) -> None:
    mask = np.zeros((350, 500), bool)
    mask[:200] = True
    tissue = Tissue(mask, 2.0, 0.5)
    grid = PatchGrid(np.array([[0, 0]], np.int64), 200, 200, 100)
    picture, options, _ = hatch_layer(slide, tissue, grid)
    drawn = picture[..., 3] > 0
    assert not drawn[:100, :100].any()
    assert drawn[:200, 100:].mean() == pytest.approx(1 / 3, abs=0.05)
    assert not drawn[200:].any()
    assert options["scale"] == (1.0, 1.0)


def test_the_border_of_the_tissue_lies_on_it(slide: Slide) -> None:
    mask = np.zeros((175, 250), bool)
    mask[50:100, 60:200] = True
    picture, options, kind = tissue_layer(slide, Tissue(mask, 4.0, 0.5))
    layer = Layer.create(
        picture[..., 3], {"scale": options["scale"], "translate": options["translate"]}, kind
    )
    assert value_at(layer, 240, 200) == 255
    assert value_at(layer, 799, 399) == 255
    assert value_at(layer, 250, 210) == 0
    assert value_at(layer, 230, 190) == 0


def painted(layer: Vectors) -> list[tuple[float, float, float, float]]:
    """Return top, left, bottom, right of the lines of a layer as they are drawn, in its data."""
    half = layer.edge_width / 2
    boxes = []
    for start, way in layer.data:
        across = half * (way == 0)
        ends = np.stack(
            [start - across, start + way + across, start + across, start + way - across]
        )
        boxes.append((*ends.min(axis=0), *ends.max(axis=0)))
    return boxes


def test_outlines_are_those_in_view_and_their_lines_end_with_the_patch(slide: Slide) -> None:
    view = Region(300, 150, 100, 100)
    data, options, kind = outline_layer(slide, predicted(slide), RAW, view)
    layer = Layer.create(data, options, kind)
    assert isinstance(layer, Vectors)
    assert str(layer.units[0]) == "micrometer"
    assert layer.length == 1
    boxes = np.array(painted(layer))
    assert len(boxes) == 4
    np.testing.assert_allclose(boxes[:, :2].min(axis=0), [(192 - 0.5) * 0.5, (320 - 0.5) * 0.5])
    np.testing.assert_allclose(boxes[:, 2:].max(axis=0), [(256 - 0.5) * 0.5, (384 - 0.5) * 0.5])
    ring = 32**2 - (32 - 2 * layer.edge_width) ** 2
    assert (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).sum() == pytest.approx(ring)


def test_the_four_sides_of_an_outline_have_the_color_of_its_patch(slide: Slide) -> None:
    found = predicted(slide)
    data, options, kind = outline_layer(slide, found, RAW, Region(0, 0, 1000, 700))
    layer = Layer.create(data, options, kind)
    colors = layer.edge_color.reshape(len(COORDS), 4, 4)
    np.testing.assert_allclose(colors, colors[:, :1].repeat(4, axis=1))
    assert len(np.unique(colors[:, 0], axis=0)) == len(COORDS)
    expected = scaled(found, stretch=Stretch.RAW).colored()
    np.testing.assert_allclose(colors[:, 0], expected, atol=1e-6)


def test_more_patches_than_can_be_told_apart_have_no_outlines(
    slide: Slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = Region(0, 0, 1000, 700)
    monkeypatch.setattr(outline_layers, "MOST_OUTLINES", len(COORDS))
    assert len(outline_layer(slide, predicted(slide), RAW, everything)[0]) == 4 * len(COORDS)
    monkeypatch.setattr(outline_layers, "MOST_OUTLINES", len(COORDS) - 1)
    assert len(outline_layer(slide, predicted(slide), RAW, everything)[0]) == 0


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 60)), min_size=1, max_size=5),
    st.integers(1, 40),
    st.sampled_from([1.0, 2.5, 7.0]),
)
def test_covered_is_every_cell_that_a_patch_touches(
    corners: list[tuple[int, int]], size: int, downsample: float
) -> None:
    tissue = Tissue(np.ones((int(80 / downsample), int(100 / downsample)), bool), downsample)
    grid = PatchGrid(np.array(corners, np.int64), size, size, size)
    rows, columns = np.indices(tissue.mask.shape) * downsample
    expected = np.zeros(tissue.mask.shape, bool)
    for x, y in corners:
        expected |= (
            (columns < x + size)
            & (columns + downsample > x)
            & (rows < y + size)
            & (rows + downsample > y)
        )
    np.testing.assert_array_equal(overlays.covered(tissue, grid), expected)


def test_what_the_threshold_clears_has_no_outline(slide: Slide) -> None:
    shown = Display(stretch=Stretch.RANKS, threshold=0.9)
    data, _, _ = outline_layer(slide, predicted(slide), shown, Region(0, 0, 1000, 700))
    assert len(data) == 4
