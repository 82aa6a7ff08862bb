"""Patch positions on the lattice, and positional terms of attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid

BASE = 10_000.0  # of the rotary frequencies (Su et al., 2021)
EXACT = "donot_use_mm_for_euclid_dist"  # the distance of a place from itself is 0


def lattice_cells(grid: PatchGrid) -> NDArray[np.int64]:
    """Return (N, 2) lattice cells (x, y) of the patches.

    Cells are one step of the grid apart and start at (0, 0). Patches off the lattice go to the
    nearest cell, ⌊(c - c_min) / stride + ½⌋; a cell may then contain several.
    """
    offset = grid.coords - grid.coords.min(axis=0)
    cells: NDArray[np.int64] = (2 * offset + grid.stride) // (2 * grid.stride)
    return cells


@dataclass(frozen=True)
class Blocks:
    """Occupied squares of 2 × 2 cells.

    Attributes
    ----------
    index
        (N,) int64, the block of each patch.
    places
        (M, 2) int64, (x, y) of each block in steps of a block, row by row.
    """

    index: Tensor
    places: Tensor

    def mean(self, h: Tensor) -> Tensor:
        """Return (M, H) means of each block's (N, H) patches."""
        count = self.index.bincount(minlength=len(self.places))
        total = h.new_zeros(len(self.places), h.shape[1]).index_add(0, self.index, h)
        return total / count[:, None]


def two_by_two(cells: NDArray[np.int64], device: torch.device) -> Blocks:
    """Return the blocks `cells // 2` of (N, 2) cells."""
    rows, index = np.unique(cells[:, ::-1] // 2, axis=0, return_inverse=True)
    return Blocks(
        torch.from_numpy(index.reshape(-1)).to(device),
        torch.from_numpy(rows[:, ::-1].copy()).to(device),
    )


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """Return queries or keys rotated by position (2-D RoPE).

    The result is (N, heads, d). The first half of a head's channels is rotated by x, the second
    by y; pair i of the d/4 of an axis by the angle place · BASE^(-4i/d). The product of two
    rotated vectors depends only on the difference of their places.

    Parameters
    ----------
    x
        (N, heads, d), d divisible by 4.
    places
        (N, 2).
    """
    pairs = x.shape[-1] // 4
    power = torch.arange(pairs, device=x.device, dtype=torch.float32) / pairs
    angle = places[:, None, :, None] * BASE**-power  # (N, 1, 2, d/4)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.unflatten(-1, (2, 2, pairs)).unbind(-2)  # (N, heads, 2, d/4)
    rotation = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-2)
    return rotation.flatten(-3)


def distance_bias(places: Tensor, others: Tensor, heads: int) -> Tensor:
    """Return (heads, N, M) float32 penalties (ALiBi, Press 2022).

    -2^(-8h/heads) · distance. Distances are Euclidean between (N, 2) `places` and (M, 2)
    `others`; h counts from 1.
    """
    distance = torch.cdist(places.float(), others.float(), compute_mode=EXACT)
    head = torch.arange(1, heads + 1, device=places.device)
    return -torch.exp2(-8.0 * head / heads)[:, None, None] * distance
