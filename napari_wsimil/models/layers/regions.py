"""Regions of neighboring patches, and scorers that select them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.positions import lattice_cells

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid

SHAPES = ("grid", "sequence")


@dataclass(frozen=True)
class Regions:
    """A partition of N patches into M non-empty regions.

    Attributes
    ----------
    order
        (N,) int64, the patches region by region; within a region row by row.
    sizes
        Number of patches of each region; they sum to N.
    """

    order: Tensor
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def sorted_index(self) -> Tensor:
        """Return (N,) int64, each patch's region, in `order`."""
        sizes = torch.tensor(self.sizes, device=self.order.device)
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)

    @property
    def index(self) -> Tensor:
        """Return (N,) int64, each patch's region, in bag order."""
        return self.unsort(self.sorted_index)

    def unsort(self, rows: Tensor) -> Tensor:
        """Return (N, …) `rows` reordered from `order` to bag order."""
        return torch.empty_like(rows).index_copy_(0, self.order, rows)

    def extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return minima and maxima of `x` per region.

        (M, D) each, from (N, D) `x` in `order`. There is no padding, so every extreme is a
        patch's value.
        """
        parts = x.split(self.sizes)
        return torch.stack([p.amin(dim=0) for p in parts]), torch.stack(
            [p.amax(dim=0) for p in parts]
        )

    def to(self, device: torch.device) -> Regions:
        """Return the same regions on `device`."""
        return Regions(self.order.to(device), self.sizes)


def partition(grid: PatchGrid, size: int, shape: str = "grid") -> Regions:
    """Return the regions of a slide's patches.

    They depend on the coordinates alone.

    Parameters
    ----------
    grid
        Positions of the patches.
    size
        K, the places in a region. Where tissue is sparse or ends, a region has fewer
        patches; where several share a cell, more.
    shape
        "grid": squares of √K by √K cells of the patch lattice. "sequence": runs of K
        patches, row by row.
    """
    side = region_side(size, shape)
    cells = lattice_cells(grid)
    x, y = grid.coords.T
    if shape == "grid":
        column, row = cells.T // side
        order = np.lexsort((x, y, cells[:, 0], cells[:, 1], column, row))
        new = (np.diff(row[order]) != 0) | (np.diff(column[order]) != 0)
        starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    else:
        order = np.lexsort((x, y, cells[:, 0], cells[:, 1]))
        starts = np.arange(0, len(order), size)
    sizes = np.diff(starts, append=len(order))
    return Regions(torch.from_numpy(order), tuple(sizes.tolist()))


def region_side(size: int, shape: str) -> int:
    """Return a square region's side in cells, 1 for sequences.

    Raises
    ------
    ValueError
        If the shape is unknown, or the size is not the square of a whole number.
    """
    if shape not in SHAPES:
        raise ValueError(f'regions must be "grid" or "sequence", not "{shape}"')
    side = math.isqrt(max(size, 0))
    if size < 1 or (shape == "grid" and side * side != size):
        raise ValueError(
            f"region_size must be at least 1, and the square of a whole number for a grid "
            f"(such as 64 for 8 by 8 cells), not {size}"
        )
    return side if shape == "grid" else 1


class MinMax(nn.Module):
    """Scorer with the minimum and maximum features of regions.

    q̂ = f(x̂), m̂⁻ = f₋(min), m̂⁺ = f₊(max), all linear. Every scorer takes the standardized
    features (n, D) of the queries, their places (n, 2) in level-0 pixels, and the minimum and
    maximum features (M, D) of the regions; it returns q̂ (n, P), m̂⁻ and m̂⁺ (M, P).

    Parameters
    ----------
    feature_dim, metadata_dim
        D and P.
    """

    def __init__(self, feature_dim: int, metadata_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(feature_dim, metadata_dim)
        self.low = nn.Linear(feature_dim, metadata_dim)
        self.high = nn.Linear(feature_dim, metadata_dim)

    def forward(
        self, x: Tensor, _: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return by_rows(self.query, x), self.low(low), self.high(high)


class Max(nn.Module):
    """Scorer with the maximum only.

    q̂ = f(x̂), m̂⁺ = f₊(max); m̂⁻ is m̂⁺.
    """

    def __init__(self, feature_dim: int, metadata_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(feature_dim, metadata_dim)
        self.high = nn.Linear(feature_dim, metadata_dim)

    def forward(
        self, x: Tensor, _: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        high = self.high(high)
        return by_rows(self.query, x), high, high


class Random(nn.Module):
    """Scorer with fixed random vectors per place and region."""

    def __init__(self, feature_dim: int, metadata_dim: int) -> None:
        super().__init__()
        self.metadata_dim = metadata_dim

    def forward(
        self, x: Tensor, places: Tensor, low: Tensor, _: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        waves = torch.randn(2, self.metadata_dim, generator=generator, dtype=torch.float64)
        region = torch.randn(len(low), self.metadata_dim, generator=generator).to(low)
        region = region / region.norm(dim=1, keepdim=True)
        return (places @ waves.to(places)).sin().to(x), region, region


SCORERS: dict[str, type[MinMax | Max | Random]] = {
    "min-max": MinMax,
    "max": Max,
    "random": Random,
}
