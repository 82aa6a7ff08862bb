"""Baselines: max pooling and mean pooling of patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import LinearHead

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class MaxPool(MILModel):
    """Max pooling: one patch decides on each class.

    logit_c = max_n (w_c·hₙ + b_c), hₙ = ReLU(W x̂ₙ + b). It has no attention map; the evidence
    for a class is all on its one patch.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    """

    def __init__(self, *, feature_dim: int, classes: int, width: int = 256) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        self.width = width
        self.embedding = nn.Linear(feature_dim, width)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits and, per class, evidence and patch logits."""
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        logits, top = self.head(h).max(dim=0)  # (C,), (C,)
        a = h.new_zeros(len(h), self.classes).scatter(0, top[None], 1.0)  # (N, C)
        return MILOutput(logits=logits, explanations=self.head.maps(h, a))

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h


class MeanPool(MILModel):
    """Mean pooling: every patch has the same weight.

    z = mean hₙ, logits = W z + b. It has no attention map; its maps show each patch's
    contribution to the logits.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    """

    def __init__(self, *, feature_dim: int, classes: int, width: int = 256) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        self.width = width
        self.embedding = nn.Linear(feature_dim, width)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits and, per class, evidence and patch logits."""
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        a = h.new_full((len(h),), 1 / len(h))  # (N,)
        return MILOutput(logits=self.head(h.mean(dim=0)), explanations=self.head.maps(h, a))

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h
