"""Planted worlds: drawn by a seed, ragged, hard to tell but by their lesions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_wsimil.synthetic.bags import Lesions, map_auroc, plant, probe

SMALL = Lesions(patches=(100, 200))


def test_the_same_seed_plants_the_same_slides() -> None:
    one, same = plant(SMALL, 4, seed=1), plant(SMALL, 4, seed=1)
    for a, b in zip(one, same, strict=True):
        assert torch.equal(a.bag.features, b.bag.features)
        assert np.array_equal(a.truth, b.truth)
    other = plant(SMALL, 4, seed=2)
    assert not torch.equal(one[0].bag.features[:50], other[0].bag.features[:50])


def test_every_second_slide_has_a_lesion_of_the_share_asked_for() -> None:
    for number, one in enumerate(plant(SMALL, 20, seed=0)):
        assert one.case.target == number % 2
        low, high = SMALL.share
        share = one.truth.mean()
        assert share == 0 if number % 2 == 0 else low - 0.01 <= share <= high + 0.01


def test_patches_lie_on_cells_of_their_own_within_ragged_tissue() -> None:
    for one in plant(SMALL, 6, seed=0):
        coords = one.bag.grid.coords
        assert 100 <= len(coords) <= 200
        assert len(np.unique(coords, axis=0)) == len(coords)
        box = np.prod(np.ptp(coords, axis=0) // one.bag.grid.stride + 1)
        assert len(coords) < 0.9 * box


def test_a_lesion_is_in_few_pieces() -> None:
    for one in plant(SMALL, 6, seed=3)[1::2]:
        cells = one.bag.grid.coords[one.truth] / one.bag.grid.stride
        steps = np.abs(cells[:, None] - cells[None]).max(axis=2)
        alone = (np.sort(steps, axis=1)[:, 1:2] > 3).sum() if len(cells) > 3 else 0
        assert alone <= 3


def test_a_probe_finds_lesions_and_chance_does_not() -> None:
    train, test = plant(SMALL, 60, seed=0), plant(SMALL, 30, seed=1)
    assert map_auroc(test, probe(train)) > 0.95
    rng = np.random.default_rng(0)
    assert 0.4 < map_auroc(test, lambda one: rng.random(len(one.bag))) < 0.6


def test_nearer_lesions_are_harder_to_find() -> None:
    def ceiling(shift: float) -> float:
        recipe = replace(SMALL, shift=shift)
        return map_auroc(plant(recipe, 30, seed=1), probe(plant(recipe, 60, seed=0)))

    assert ceiling(1.0) + 0.1 < ceiling(3.0)
