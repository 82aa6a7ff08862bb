"""Scorers of regions: the projections by which queries choose regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.rows import by_rows

if TYPE_CHECKING:
    from torch import Tensor


class MinMax(nn.Module):
    """q̂ = f(x̂), m̂⁻ = f₋(least), m̂⁺ = f₊(greatest), all linear.

    Every scorer takes the standardized features (n, D) of the queries, their places (n, 2)
    in level-0 pixels, and the least and greatest features (M, D) of the regions; it returns
    q̂ (n, P), m̂⁻ and m̂⁺ (M, P).

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
    """q̂ = f(x̂), m̂⁺ = f₊(greatest); m̂⁻ is m̂⁺."""

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
    """Vectors that differ from place to place and from region to region, and mean nothing."""

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
