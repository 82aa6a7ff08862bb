"""Part: a bag of some of the patches of another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from napari_wsimil.bags.bag import Bag


def take_patches(bag: Bag, index: torch.Tensor) -> Bag:
    """Return the bag of the patches in `index` ((n,) int64), places and all."""
    grid, finer = bag.grid, bag.finer
    if grid is not None:
        grid = replace(grid, coords=grid.coords[index.numpy()])
    if isinstance(finer, torch.Tensor):
        finer = finer[index]
    elif finer is not None:
        whole = finer

        def finer(patch: int) -> torch.Tensor:
            return whole(int(index[patch]))

    return replace(bag, features=bag.features[index], grid=grid, finer=finer)
