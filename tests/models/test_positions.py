"""Positions: cells, blocks, turned queries and keys, and the cost of distance."""

from __future__ import annotations

import numpy as np
import torch

from napari_wsimil.models.layers.positions import distance_bias, lattice_cells, rotate, two_by_two
from napari_wsimil.slides.patch_grid import PatchGrid


def test_cells_are_steps_of_the_grid_and_what_lies_between_goes_to_the_nearest() -> None:
    coords = np.array([[50, 10], [150, 10], [99, 10], [100, 60], [350, 209]], dtype=np.int64)
    grid = PatchGrid(coords, patch_size=200, stride=100, pixels=50)
    assert lattice_cells(grid).tolist() == [[0, 0], [1, 0], [0, 0], [1, 1], [3, 2]]


def test_tokens_are_the_means_of_the_patches_present_in_two_by_two_cells() -> None:
    cells = np.array([[0, 0], [1, 1], [2, 0], [5, 3], [1, 1]])
    blocks = two_by_two(cells, torch.device("cpu"))
    assert blocks.index.tolist() == [0, 0, 1, 2, 0]
    assert blocks.places.tolist() == [[0, 0], [1, 0], [2, 1]]
    h = torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8], [5, 0]])
    assert blocks.mean(h).tolist() == [[3, 2], [5, 6], [7, 8]]


def test_turned_queries_and_keys_know_only_how_far_apart_they_are() -> None:
    q, k = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def score(place: tuple[int, int], other: tuple[int, int]) -> torch.Tensor:
        return (rotate(q, torch.tensor([place])) * rotate(k, torch.tensor([other]))).sum()

    torch.testing.assert_close(score((3, 9), (5, 2)), score((13, 12), (15, 5)))
    assert not torch.isclose(score((3, 9), (5, 2)), score((3, 9), (4, 2)))
    assert not torch.isclose(score((3, 9), (5, 2)), score((3, 9), (5, 3)))
    torch.testing.assert_close(score((4, 4), (4, 4)), (q * k).sum())


def test_distances_cost_less_in_each_further_head() -> None:
    bias = distance_bias(torch.tensor([[0, 0]]), torch.tensor([[3, 4], [0, 0]]), heads=4)
    np.testing.assert_allclose(bias[:, 0, 0], [-5 / 4, -5 / 16, -5 / 64, -5 / 256])
    assert not bias[:, 0, 1].any()
