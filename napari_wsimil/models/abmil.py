"""ABMIL: gated attention pooling (Ilse, Tomczak and Welling, ICML 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class ABMIL(MILModel):
    """Attention-weighted mean of the patches.

    h = ReLU(W x̂ + b), a = softmax(wᵀ(tanh(V h) ⊙ sigmoid(U h))) (eq. 9), z = Σ aₙ hₙ
    (eq. 7), logits = C z + c.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    attention_dim
        L, the width of V and U.
    """

    survives: ClassVar[bool] = True

    def __init__(
        self, *, feature_dim: int, classes: int, width: int = 256, attention_dim: int = 128
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        self.width = width
        self.attention_dim = attention_dim
        self.embedding = nn.Linear(feature_dim, width)
        self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, attention and the head's maps per class."""
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        e = by_rows(self.attention, h)[:, 0]  # (N,)
        a = e.softmax(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(a @ h),
            explanations=(
                Explanation("attention", ExplanationKind.ATTENTION, a.detach()),
                *self.head.maps(h, a),
            ),
        )

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h
