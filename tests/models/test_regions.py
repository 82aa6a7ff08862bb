"""Regions as functions of coordinates alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsimil.models.layers.regions import Regions, partition
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.synthetic.bags import planted_grid, tissue_cells

STRIDE = 256


def ragged(n: int, seed: int = 0) -> PatchGrid:
    return planted_grid(tissue_cells(n, np.random.default_rng(seed)))


def groups(regions: Regions) -> list[set[int]]:
    return [set(part.tolist()) for part in regions.order.split(regions.sizes)]


@pytest.mark.parametrize("n", [1, 2, 37, 900])
@pytest.mark.parametrize("side", [1, 3, 8])
def test_grid_regions_are_squares_of_the_lattice_that_have_patches(n: int, side: int) -> None:
    grid = ragged(n)
    squares: dict[tuple[int, int], set[int]] = {}
    low = grid.coords.min(axis=0)
    for patch, (x, y) in enumerate(grid.coords - low):
        key = (int(y // STRIDE) // side, int(x // STRIDE) // side)
        squares.setdefault(key, set()).add(patch)
    found = groups(partition(grid, side * side))
    assert found == [squares[key] for key in sorted(squares)]


def test_sequence_regions_are_runs_row_by_row_and_the_last_may_be_short() -> None:
    grid = ragged(50)
    shuffled = np.random.default_rng(1).permutation(50)
    there = PatchGrid(grid.coords[shuffled], STRIDE, STRIDE, STRIDE)
    rows = sorted(range(50), key=lambda i: (there.coords[i, 1], there.coords[i, 0]))
    regions = partition(there, 16, "sequence")
    assert regions.order.tolist() == rows
    assert regions.sizes == (16, 16, 16, 2)


@pytest.mark.parametrize("shape", ["grid", "sequence"])
def test_regions_follow_their_patches(shape: str) -> None:
    grid = ragged(200)
    shuffled = np.random.default_rng(1).permutation(200)
    there = PatchGrid(grid.coords[shuffled], STRIDE, STRIDE, STRIDE)
    before, after = partition(grid, 16, shape), partition(there, 16, shape)
    assert after.sizes == before.sizes
    assert torch.equal(after.index, before.index[shuffled])
    assert (there.coords[after.order] == grid.coords[before.order]).all()


def test_within_a_region_patches_come_row_by_row() -> None:
    grid = ragged(300)
    regions = partition(grid, 25)
    for part in regions.order.split(regions.sizes):
        corners = [(y, x) for x, y in grid.coords[part].tolist()]
        assert corners == sorted(corners)


def test_patches_that_overlap_share_a_region_with_the_cell_nearest_to_them() -> None:
    x = np.array([0, 127, 128, 255, 384, 383, 512])  # in cells 0 0 1 1 2 1 2
    grid = PatchGrid(np.stack([x, 0 * x], axis=1), STRIDE, STRIDE, STRIDE)
    assert partition(grid, 1).index.tolist() == [0, 0, 1, 1, 2, 1, 2]
    assert partition(grid, 4).index.tolist() == [0, 0, 0, 0, 1, 0, 1]


def test_regions_start_at_the_tissue_not_at_the_slide() -> None:
    grid = ragged(100)
    moved = PatchGrid(grid.coords + np.array([70, 5000]), STRIDE, STRIDE, STRIDE)
    assert torch.equal(partition(moved, 9).index, partition(grid, 9).index)


def test_rows_come_back_in_the_order_of_the_bag() -> None:
    regions = partition(ragged(100), 9)
    rows = torch.randn(100, 3)
    assert torch.equal(regions.unsort(rows[regions.order]), rows)
    for region, part in enumerate(regions.order.split(regions.sizes)):
        assert (regions.index[part] == region).all()


def test_extremes_are_of_the_patches_of_a_region_and_of_nothing_else() -> None:
    regions = partition(ragged(150), 16)
    x = 3 + torch.rand(150, 5)  # zeros for padding would be the least
    low, high = regions.extremes(x)
    assert len(set(regions.sizes)) > 2
    for region in range(len(regions)):
        part = x[regions.sorted_index == region].numpy()
        np.testing.assert_array_equal(low[region], part.min(axis=0))
        np.testing.assert_array_equal(high[region], part.max(axis=0))


@pytest.mark.parametrize(
    ("size", "shape", "why"),
    [(0, "sequence", "at least 1"), (60, "grid", "square"), (-4, "grid", "square"), (4, "x", "x")],
)
def test_impossible_regions_are_refused(size: int, shape: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        partition(ragged(5), size, shape)
