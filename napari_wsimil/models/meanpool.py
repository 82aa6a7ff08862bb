"""MeanPool: the mean of the patches, classified; the floor to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.models.head import LinearHead
from napari_wsimil.models.rows import by_rows

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class MeanPool(MILModel):
    """Every patch counts the same: z = mean hₙ, logits = W z + b.

    It has no attention to show; its maps are what each patch brings to the logits.

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
        """Return the slide's logits and, per class, evidence and patch logits."""
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        a = h.new_full((len(h),), 1 / len(h))  # (N,)
        return MILOutput(logits=self.head(h.mean(dim=0)), explanations=self.head.maps(h, a))

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h
