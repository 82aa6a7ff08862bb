"""A mark at level 0 is found within a pixel of each level."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from builders import prediction
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from marked import Marked, elongated, middle, middle_of, write_svs
from napari.layers import Image, Layer
from typer.testing import CliRunner

from napari_wsimil.cli.main import app
from napari_wsimil.explain.export import export_map, map_picture
from napari_wsimil.features.bag import Bag
from napari_wsimil.gui.view_state import Display
from napari_wsimil.gui.viewer.overlays import hatch_layer, map_layer, tissue_layer
from napari_wsimil.gui.viewer.slide_layers import slide_layers
from napari_wsimil.models.base import ExplanationKind
from napari_wsimil.slides.patch_grid import PatchGrid, lay_grid
from napari_wsimil.slides.raster import rasterize
from napari_wsimil.slides.readers.levels import level_factors
from napari_wsimil.slides.readers.openslide import OpenSlideReader
from napari_wsimil.slides.reading import Reading
from napari_wsimil.slides.slide import Slide, open_slide
from napari_wsimil.slides.tile_cache import TileCache
from napari_wsimil.slides.tissue import find_tissue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction

CUTS = st.sampled_from((math.floor, math.ceil))


@st.composite
def marked_slides(draw: st.DrawFn) -> Marked:
    """Elongated slides, level sizes rounded down or up per axis."""
    short, long = draw(st.integers(150, 400)), draw(st.integers(800, 5000))
    size = draw(st.sampled_from(((short, long), (long, short))))
    step = draw(st.sampled_from((2.0, 4.0, 3.0, 2.5)) | st.floats(1.7, 5.0))
    count = draw(st.integers(1, 3))
    factors = [step**number for number in range(1, count + 1) if short / step**number >= 16]
    cuts = tuple((draw(CUTS), draw(CUTS)) for _ in factors)
    coarsest = math.ceil(max(factors))
    side, margin = 3 * coarsest + draw(st.integers(20, 30)), 2 * coarsest + 15
    left, top = (draw(st.integers(margin, whole - margin - side)) for whole in size)
    return Marked(size, (left, top, left + side, top + side), tuple(factors), cuts)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("levels")


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
)
@given(marked=marked_slides())
def test_a_mark_is_found_within_a_pixel_on_every_path(marked: Marked, folder: Path) -> None:
    path = write_svs(folder / "marked.svs", marked.levels())
    with open_slide(path) as slide:
        assert [(level.width, level.height) for level in slide.levels] == marked.sizes
        assert slide.notes() == ()
        for name, place, pixel in _sightings(slide, marked, folder):
            off = np.abs(place - marked.middle).max()
            assert off <= pixel * (1 + 1e-6), f"{name}: {off:.1f} px off, a pixel is {pixel:.2f}"


Sighting = tuple[str, "NDArray[np.float64]", float]


def _sightings(slide: Slide, marked: Marked, folder: Path) -> Iterator[Sighting]:
    """Yield each path, the mark's middle there and a pixel's size."""
    for number, factor in enumerate((1.0, *marked.factors)):
        yield from _stored(slide, marked, number, factor)
    yield from _displayed(slide)
    yield from _found(slide, folder)


def _stored(slide: Slide, marked: Marked, number: int, factor: float) -> Iterator[Sighting]:
    x, y, right, bottom = marked.mark
    margin = math.ceil(3 * factor)
    corner, side = np.array([x - margin, y - margin]), max(right - x, bottom - y) + 2 * margin
    pixels = math.ceil(side / factor)
    region = slide.read_region(*corner.tolist(), pixels, pixels, level=number)
    yield f"region of level {number}", corner + middle(region) * factor, factor
    patch = slide.read_patch(*corner.tolist(), math.ceil(pixels * factor), pixels)
    step = math.ceil(pixels * factor) / pixels
    yield f"patch at {factor:g}", corner + middle(patch) * step, factor
    level = slide.levels[number]
    longest = max(level.width, level.height)
    thumbnail, downsample = slide.thumbnail(longest)
    assert max(thumbnail.shape) <= longest
    yield f"thumbnail of {longest} px", middle(thumbnail) * downsample, max(factor, downsample)


def _displayed(slide: Slide) -> Iterator[Sighting]:
    """Yield the layers, placed as napari places them."""
    underlay, image = (Layer.create(*layer) for layer in slide_layers(slide))
    yield "underlay", _world(underlay, middle(underlay.data)), float(underlay.scale[0])
    assert isinstance(image, Image)
    for level, array, factors in zip(
        slide.pyramid_tiles.steps, image.data, image.downsample_factors, strict=True
    ):
        pixel = max(level.level.factors)
        assert array.shape[0] * factors[0] - slide.dimensions[1] < max(
            slide.pyramid_tiles.steps[-1].level.factors
        ), "the margin is wider than a pixel of the coarsest level"
        yield f"layer at {pixel:g}", middle(np.asarray(array)) * factors[1::-1], pixel
    for array, step in zip(slide.arrays, slide.pyramid_tiles.steps, strict=True):
        factor = np.array(step.level.factors)
        yield f"array at {factor}", middle(np.asarray(array)) * factor, float(factor.max())


def _found(slide: Slide, folder: Path) -> Iterator[Sighting]:
    tissue = find_tissue(slide)
    pixel = 1.25 * tissue.downsample  # a size leaves its factor open by a pixel, edges are whole
    yield "tissue", middle_of(tissue.mask) * tissue.downsample, pixel
    border = Layer.create(*tissue_layer(slide, tissue))
    yield "tissue layer", _world(border, middle_of(border.data[..., 3] > 0)), pixel
    fine = max(2, int(tissue.downsample))
    grid = lay_grid(slide, tissue, fine, fine, 8, min_tissue=0.5)
    yield "grid", _bounds(grid.coords, grid.coords + fine), pixel + fine / 2
    far = PatchGrid(np.zeros((1, 2), np.int64), 1, 1, 1)
    hatched = Layer.create(*hatch_layer(slide, tissue, far))
    cell = float(hatched.scale[0])
    yield "hatching", _world(hatched, middle_of(hatched.data[..., 3] > 0)), 2 * cell
    truth = _bounds(grid.coords, grid.coords + fine)
    for name, place in _exported(slide, grid, folder):
        np.testing.assert_allclose(place, truth, atol=0.6, err_msg=name)


def _exported(slide: Slide, grid: PatchGrid, folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the middle of the grid by raster, map and exports."""
    shown = _predicted(slide, grid)
    raster = rasterize(grid, np.ones(len(grid)))
    yield "raster", np.array(raster.origin) + middle_of(raster.index >= 0) * raster.step
    layer = Layer.create(*map_layer(slide, shown, Display()))
    yield "map", _world(layer, middle_of(np.isfinite(layer.data)))
    with export_map(shown, folder / "map.csv").open(newline="") as file:
        rows = [[float(row[name]) for name in ("x", "y", "width")] for row in csv.DictReader(file)]
    corners, sides = np.array(rows)[:, :2], np.array(rows)[:, 2:]
    yield "CSV", _bounds(corners, corners + sides)
    tiles = json.loads(export_map(shown, folder / "map.geojson").read_text())["features"]
    points = np.array([tile["geometry"]["coordinates"][0] for tile in tiles], float)
    yield "GeoJSON", _bounds(points.min(axis=1), points.max(axis=1))
    left, right, bottom, top = map_picture(shown).axes[0].images[0].get_extent()
    yield "picture", np.array([left + right, top + bottom]) / 2


def _predicted(slide: Slide, grid: PatchGrid) -> Prediction:
    bag = Bag(torch.zeros(len(grid), 3), encoder="e@1", grid=grid, slide=slide.fingerprint)
    return replace(prediction(ExplanationKind.SCORE, [1.0] * len(grid)), bag=bag)


def _world(layer: Layer, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a place on a layer in level-0 pixels."""
    return np.array(layer.data_to_world(tuple(place[::-1] - 0.5)))[::-1] + 0.5


def _bounds(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((low.min(axis=0) + high.max(axis=0)) / 2, float)


def test_the_levels_of_an_elongated_slide_have_one_whole_factor(folder: Path) -> None:
    """Size over size is 16.28 × 16.0 and 70 × 64."""
    marked = elongated()
    with open_slide(write_svs(folder / "elongated.svs", marked.levels())) as slide:
        assert [level.factors for level in slide.levels] == [(f, f) for f in (1, 4, 16, 64)]
        for number, factor in enumerate((1, 4, 16, 64)):
            whole = slide.read_region(0, 0, *marked.sizes[number], level=number)
            np.testing.assert_array_equal(middle(whole) * factor, marked.middle)
        layer = Layer.create(*slide_layers(slide)[1])
        for array, factors in zip(layer.data, layer.downsample_factors, strict=True):
            place = middle(np.asarray(array)) * factors[1::-1]
            np.testing.assert_allclose(place, marked.middle, atol=1e-6)
        x, y, right, _ = marked.mark
        patch = slide.read_patch(x, y, right - x, (right - x) // 16)
        assert (patch == patch[0, 0]).all()
        beside = slide.read_patch(x - 16, y, 16, 1)
        assert beside.min() > 240


def test_ordinary_slides_keep_their_exact_factors(data: Path) -> None:
    for name, factors in (("boxes.tiff", [1, 2, 4, 8]), ("CMU-1-Small-Region.svs", [1])):
        with open_slide(data / "slides" / name) as slide:
            assert [level.factors for level in slide.levels] == [(f, f) for f in factors]
            assert slide.notes() == ()


@pytest.mark.parametrize(
    ("finest", "size", "factors"),
    [
        ((700, 40_000), (43, 2500), (16, 16)),
        ((700, 40_000), (44, 2500), (16, 16)),
        ((700, 40_000), (10, 625), (64, 64)),
        ((61_440, 61_440), (15_360, 15_360), (4, 4)),
        ((46_000, 32_914), (2875, 2057), (16, 16)),
        ((96, 96), (2, 2), (48, 48)),
        ((1000, 700), (333, 233), (3, 3)),
        ((2000, 1000), (800, 400), (2.5, 2.5)),
        ((98_304, 60_001), (98_304 // 3 + 7, 20_005), (98_304 / 32_775, 98_304 / 32_775)),
        ((1000, 1000), (500, 250), (2, 4)),
        ((1000, 1000), (553, 512), (1000 / 553, 1000 / 512)),
        ((1000, 20_000), (512, 10_240), (1000 / 512, 20_000 / 10_240)),
    ],
)
def test_one_factor_that_explains_both_sizes_is_the_levels_factor(
    finest: tuple[int, int], size: tuple[int, int], factors: tuple[float, float]
) -> None:
    assert level_factors(finest, size) == factors


def test_a_factor_between_the_two_ratios_counts_as_one() -> None:
    """Neither axis' ratio explains the other: 721.5 up, 148.96 down."""
    x, y = level_factors((1453, 300), (722, 148))
    assert x == y
    assert math.ceil(1453 / x) == 722
    assert math.floor(300 / y) == 148


def test_what_a_cut_level_lacks_is_its_last_pixel_and_never_glass(folder: Path) -> None:
    """Of 103 px, 25 at a quarter miss the last three."""
    fine = np.full((200, 103, 3), 90, np.uint8)
    coarse = np.full((50, 25, 3), 90, np.uint8)
    with open_slide(write_svs(folder / "cut.svs", [fine, coarse])) as slide:
        assert slide.read_patch(103 - 64, 0, 64, 16).max() == 90
        assert slide.read_region(96, 0, 4, 4, level=1)[:, 2:].min() == 255
        picture, downsample = slide.thumbnail(50)
        assert (picture.shape, downsample) == ((50, 26, 3), 4.0)
        assert picture.max() == 90
        assert np.asarray(slide.display_levels[-1])[:, :26].max() == 90


def test_a_level_of_two_factors_has_both(folder: Path) -> None:
    """Rows at a half, columns at a quarter."""
    fine = np.full((400, 400, 3), 245, np.uint8)
    fine[200:280, 80:160] = (200, 60, 150)
    path = write_svs(folder / "two.svs", [fine, fine[::2, ::4]])
    with open_slide(path) as slide:
        assert slide.levels[1].factors == (4.0, 2.0)
        assert slide.notes() == (
            "level 1 (100 × 200 px): its size makes it 4 × 2 times as coarse, so it may be "
            "padded or misplaced",
        )
        np.testing.assert_array_equal(
            middle(slide.read_region(40, 100, 50, 100, level=1)), [20, 70]
        )
        patch = slide.read_patch(40, 160, 160, 40)
        np.testing.assert_array_equal(middle(patch), [20, 20])
        thumbnail, downsample = slide.thumbnail(100)
        assert thumbnail.shape == (100, 100, 3)
        np.testing.assert_array_equal(middle(thumbnail) * downsample, [120, 240])


def test_openslide_is_asked_in_its_own_frame(folder: Path) -> None:
    """It divides level-0 places by a mean of 16.14."""
    marked = elongated()
    path = write_svs(folder / "theirs.svs", marked.levels())
    with Slide(path, reader := OpenSlideReader(path), reader.resolution, TileCache(2**26)) as slide:
        assert [level.factors for level in slide.levels] == [(f, f) for f in (1, 4, 16, 64)]
        for number, factor in enumerate((1, 4, 16, 64)):
            whole = slide.read_region(0, 0, *marked.sizes[number], level=number)
            np.testing.assert_allclose(middle(whole), marked.middle / factor, atol=0.1)


def test_info_states_both_factors_where_they_differ(folder: Path) -> None:
    fine = np.full((400, 400, 3), 245, np.uint8)
    path = write_svs(folder / "info.svs", [fine, fine[::2, ::2], fine[::4, ::8]])
    printed = CliRunner().invoke(app, ["info", str(path), "--json"]).stdout
    finest, half, last = json.loads(printed)["levels"]
    assert finest == {"width_px": 400, "height_px": 400, "downsample": 1.0}
    assert half["downsample"] == 2.0
    assert (last["downsample"], last["downsample_x"], last["downsample_y"]) == (6.0, 8.0, 4.0)


def test_features_of_a_level_that_moved_are_known_as_made_otherwise(
    folder: Path, small_slide: Path
) -> None:
    path = write_svs(folder / "elongated.svs", elongated().levels())
    with open_slide(path) as slide, open_slide(small_slide) as square:
        assert slide.reading.changes == OpenSlideReader(path).changes == {"levels": 2}
        assert square.reading.changes == {}
        assert "earlier levels of this slide" in Reading(1).of(slide.reading).caveat
