"""Grids of patches, their raster, and the checks that they belong on a slide."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from napari_wsimil.slides import cells as cells_module
from napari_wsimil.slides.geometry import MppSource, Resolution
from napari_wsimil.slides.patch_grid import PatchGrid, check_places, lay_grid, make_grid
from napari_wsimil.slides.raster import Raster, rasterize
from napari_wsimil.slides.tissue import Tissue


@dataclass
class PlainSlide:
    """Just the facts of a slide that grids need."""

    dimensions: tuple[int, int] = (2000, 1000)
    resolution: Resolution = field(default_factory=lambda: Resolution(0.25, MppSource.HEADER))
    name: str = "case-7"
    path: Path = Path("case-7.svs")


def grid_at(*coords: tuple[int, int], patch_size: int = 4, stride: int | None = None) -> PatchGrid:
    return PatchGrid(
        np.array(coords, dtype=np.int64).reshape(-1, 2), patch_size, stride or patch_size, 8
    )


def tissue_everywhere(slide: PlainSlide, downsample: float = 10.0) -> Tissue:
    width, height = slide.dimensions
    shape = (round(height / downsample), round(width / downsample))
    return Tissue(np.ones(shape, dtype=bool), downsample)


def slow_raster(grid: PatchGrid, scores: np.ndarray) -> dict[tuple[int, int], float]:
    """Mean score at every covered level-0 pixel, the slow and literal way."""
    at: dict[tuple[int, int], list[float]] = {}
    for (x, y), score in zip(grid.coords.tolist(), scores.tolist(), strict=True):
        for column in range(x, x + grid.patch_size):
            for row in range(y, y + grid.patch_size):
                at.setdefault((column, row), []).append(score)
    return {place: float(np.mean(values)) for place, values in at.items()}


def last_patch(grid: PatchGrid) -> dict[tuple[int, int], int]:
    """Number of the last patch over every covered level-0 pixel, the slow and literal way."""
    at: dict[tuple[int, int], int] = {}
    for number, (x, y) in enumerate(grid.coords.tolist()):
        for column in range(x, x + grid.patch_size):
            at |= {(column, row): number for row in range(y, y + grid.patch_size)}
    return at


def pixel_numbers(raster: Raster) -> dict[tuple[int, int], int]:
    """Number of the patch at every covered level-0 pixel as the raster has it."""
    numbers = Raster(raster.index, raster.index, raster.origin, raster.step, raster.exact)
    return {place: int(number) for place, number in pixel_values(numbers).items()}


def pixel_values(raster: Raster) -> dict[tuple[int, int], float]:
    """Value of every covered level-0 pixel as the raster has it."""
    found = {}
    for row, column in np.argwhere(raster.index >= 0).tolist():
        for dy in range(raster.step):
            for dx in range(raster.step):
                x = raster.origin[0] + column * raster.step + dx
                y = raster.origin[1] + row * raster.step + dy
                found[x, y] = float(raster.values[row, column])
    return found


places = st.lists(
    st.tuples(st.integers(0, 24), st.integers(0, 24)), min_size=1, max_size=8, unique=True
)


@given(places, st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_pixel_holds_the_mean_of_the_patches_over_it(
    corners: list[tuple[int, int]], patch_size: int, spread: int, seed: int
) -> None:
    grid = grid_at(*((spread * x, spread * y) for x, y in corners), patch_size=patch_size)
    scores = np.random.default_rng(seed).normal(size=len(grid)).astype(np.float32)
    raster = rasterize(grid, scores)
    found, expected = pixel_values(raster), slow_raster(grid, scores)
    assert raster.exact
    assert found.keys() == expected.keys()
    assert_allclose([found[p] for p in expected], list(expected.values()), rtol=1e-5, atol=1e-6)
    assert pixel_numbers(raster) == last_patch(grid)


@given(places, st.integers(4, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_sampled_raster_is_what_the_literal_painting_of_its_cells_gives(
    corners: list[tuple[int, int]], patch_size: int, seed: int
) -> None:
    grid = grid_at(*corners, patch_size=patch_size)
    scores = np.random.default_rng(seed).normal(size=len(grid)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "MAX_CELLS", 120)
        raster = rasterize(grid, scores)
    means, numbers = slow_raster(grid, scores), last_patch(grid)
    rows, columns = np.indices(raster.values.shape)
    centers = [
        (int(x), int(y))
        for x, y in zip(
            (raster.origin[0] + (columns.ravel() + 0.5) * raster.step) // 1,
            (raster.origin[1] + (rows.ravel() + 0.5) * raster.step) // 1,
            strict=True,
        )
    ]
    assert raster.index.ravel().tolist() == [numbers.get(c, -1) for c in centers]
    expected = [means.get(c, np.nan) for c in centers]
    assert_allclose(raster.values.ravel(), expected, rtol=1e-5, atol=1e-6)


def test_a_plain_lattice_has_one_cell_for_each_patch() -> None:
    grid = grid_at((100, 40), (104, 40), (108, 48))
    raster = rasterize(grid, np.array([1.0, 2.0, 3.0]))
    assert (raster.origin, raster.step) == ((100, 40), 4)
    nan = np.nan
    assert_array_equal(raster.values, [[1, 2, nan], [nan, nan, nan], [nan, nan, 3]])
    assert_array_equal(raster.index, [[0, 1, -1], [-1, -1, -1], [-1, -1, 2]])


def test_where_patches_overlap_the_index_names_the_last() -> None:
    raster = rasterize(grid_at((0, 0), (2, 0), stride=2), np.array([1.0, 3.0]))
    assert_array_equal(raster.index[0], [0, 1, 1])
    assert_allclose(raster.values[0], [1, 2, 3])


def test_two_rasters_of_a_grid_share_their_cells_which_nobody_can_write() -> None:
    grid = PatchGrid(np.array([[0, 0], [4, 0]], np.int64), 4, 4, 4)
    one, other = (rasterize(grid, np.array(scores)) for scores in ([1.0, 2.0], [3.0, np.nan]))
    assert one.index is other.index
    np.testing.assert_array_equal(one.values, [[1, 2]])
    np.testing.assert_array_equal(other.values, [[3, np.nan]])
    with pytest.raises(ValueError, match="read-only"):
        one.index[0, 0] = 5


def test_a_patch_without_a_score_is_covered_but_empty() -> None:
    raster = rasterize(grid_at((0, 0), (2, 0), stride=2), np.array([np.nan, 3.0]))
    assert_array_equal(raster.values[0], [np.nan, 3, 3])
    assert raster.index[0, 0] == 0


def test_an_endless_score_is_left_out_of_every_cell() -> None:
    raster = rasterize(grid_at((0, 0), (2, 0), (8, 0), stride=2), np.array([np.inf, 3.0, 5.0]))
    assert_array_equal(raster.values[0], [np.nan, 3, 3, np.nan, 5, 5])


def test_tiny_scores_beside_large_ones_keep_their_digits() -> None:
    raster = rasterize(grid_at((0, 0), (2, 0), (6, 0), stride=2), np.array([1.0, 1.0, 1e-12]))
    assert raster.values[0, -1] == np.float32(1e-12)


def test_patches_at_the_same_place_are_counted_and_refused() -> None:
    grid = grid_at((0, 0), (4, 0), (4, 0), (0, 0))
    with pytest.raises(ValueError, match="2 of 4 patches have the same coordinates"):
        rasterize(grid, np.zeros(4))


def test_scores_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        rasterize(grid_at((0, 0), (4, 0)), np.zeros(3))


def test_a_raster_is_bounded_and_its_edges_right_to_half_a_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells_module, "MAX_CELLS", 1000)
    grid = grid_at((0, 0), (301, 0), (7, 500), patch_size=97)
    raster = rasterize(grid, np.array([1.0, 2.0, 3.0]))
    assert not raster.exact
    assert raster.values.size <= 1000
    for patch, corner in enumerate(grid.coords):
        rows, columns = np.nonzero(raster.index == patch)
        edges = raster.step * np.array(
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        )
        assert np.abs(edges - [*corner, *(corner + 97)]).max() <= raster.step / 2


def test_an_absurd_raster_is_refused() -> None:
    grid = grid_at((0, 0), (10**6 + 1, 10**6 + 1), patch_size=3)
    with pytest.raises(ValueError, match="larger or fewer patches"):
        rasterize(grid, np.zeros(2))


def test_size_and_stride_are_rounded_once_and_the_real_mpp_is_stated() -> None:
    slide = PlainSlide(resolution=Resolution(0.2527, MppSource.HEADER))
    grid = make_grid(slide, tissue_everywhere(slide), mpp=0.5, pixels=112, overlap=0.5)
    assert (grid.patch_size, grid.stride, grid.pixels) == (222, 111, 112)
    assert grid.mpp == pytest.approx(0.2527 * 222 / 112)
    assert grid.slide_size == slide.dimensions


def test_patches_go_row_by_row_and_stay_on_the_slide() -> None:
    slide = PlainSlide(dimensions=(1000, 700))
    grid = make_grid(slide, tissue_everywhere(slide), pixels=100)
    x, y = np.meshgrid(np.arange(0, 801, 200), np.arange(0, 401, 200))
    assert_array_equal(grid.coords, np.stack([x.ravel(), y.ravel()], axis=1))


def test_only_patches_with_enough_tissue_are_kept() -> None:
    slide = PlainSlide(dimensions=(400, 100))
    mask = np.zeros((10, 40), dtype=bool)
    mask[:, 8:17] = True  # 20 % of patch 0, 70 % of patch 1
    tissue = Tissue(mask, downsample=10.0)
    kept = {
        least: lay_grid(slide, tissue, 100, 100, 50, least).coords[:, 0].tolist()
        for least in (0.0, 0.2, 0.21, 0.7)
    }
    assert kept == {0.0: [0, 100], 0.2: [0, 100], 0.21: [100], 0.7: [100]}


def test_a_slide_without_tissue_is_named() -> None:
    slide = PlainSlide()
    with pytest.raises(ValueError, match="case-7: no tissue"):
        make_grid(slide, Tissue(np.zeros((100, 200), dtype=bool), 10.0))


def test_an_unknown_pixel_size_asks_for_it_but_a_grid_in_pixels_does_not() -> None:
    slide = PlainSlide(resolution=Resolution(None, MppSource.UNKNOWN))
    with pytest.raises(ValueError, match=r"case-7.*mpp="):
        make_grid(slide, tissue_everywhere(slide))
    assert lay_grid(slide, tissue_everywhere(slide), 500, 500, 224).mpp is None


@pytest.mark.parametrize(
    "bad", [{"overlap": 1.0}, {"overlap": -0.1}, {"min_tissue": 2.0}, {"mpp": 0.0}]
)
def test_arguments_out_of_range_are_named(bad: dict[str, float]) -> None:
    slide = PlainSlide()
    with pytest.raises(ValueError, match=next(iter(bad))):
        make_grid(slide, tissue_everywhere(slide), **bad)


def test_places_that_fit_pass_every_check() -> None:
    slide = PlainSlide()
    check_places(make_grid(slide, tissue_everywhere(slide), overlap=0.25), slide)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"coords": np.array([[0, 0], [448, 0], [1600, 0]])}, "edge check"),
        ({"coords": np.array([[-1, 0], [447, 0]])}, "edge check"),
        ({"stride": 224}, "stride check"),
        ({"slide_size": (4000, 2000)}, "size check"),
    ],
)
def test_a_check_that_fails_is_named(change: dict[str, object], check: str) -> None:
    slide = PlainSlide()
    grid = replace(make_grid(slide, tissue_everywhere(slide)), **change)
    with pytest.raises(ValueError, match=f"case-7: {check}"):
        check_places(grid, slide)
