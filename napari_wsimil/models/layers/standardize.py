"""Z-scoring of features with the statistics of a training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.layers.chunked import ROWS

if TYPE_CHECKING:
    from torch import Tensor

NEARLY_CONSTANT = 1e-6  # a standard deviation below this share of the mean is rounding error


class Moments:
    """Running mean and variance of rows, in float64.

    Parameters
    ----------
    width
        D, the numbers in a row.

    Notes
    -----
    Pieces are merged by Chan's update, so that a large mean costs no precision.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self._squares = torch.zeros(width, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Add (N, D) rows."""
        for part in rows.split(ROWS):
            self._merge(part.to(self.mean))

    def _merge(self, rows: Tensor) -> None:
        mean = rows.mean(dim=0)
        shift = mean - self.mean
        total = self.count + len(rows)
        self._squares += (rows - mean).square().sum(dim=0)
        self._squares += shift.square() * (self.count * len(rows) / total)
        self.mean += shift * (len(rows) / total)
        self.count = total

    @property
    def deviation(self) -> Tensor:
        """Return the (D,) population standard deviations."""
        return (self._squares / max(self.count, 1)).sqrt()


class Standardize(nn.Module):
    """x̂ = (x - mean) / scale, per feature.

    The identity until `measure` is called.

    Parameters
    ----------
    feature_dim
        D, the width of the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))

    def measure(self, moments: Moments) -> None:
        """Set mean and scale from `moments`.

        A constant feature keeps the scale 1; ValueError without any row.
        """
        if moments.count == 0:
            raise ValueError("the training bags have no patches: check the features files")
        deviation = moments.deviation
        varies = deviation > NEARLY_CONSTANT * moments.mean.abs()
        self.mean.copy_(moments.mean)
        self.scale.copy_(torch.where(varies, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, D) standardized features."""
        return (x - self.mean) / self.scale
