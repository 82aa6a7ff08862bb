"""FullAttention: reference model in which every patch attends to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class FullAttention(MILModel):
    """One layer of self-attention over all patches, then attention pooling.

    h = ReLU(W x̂ + b), h' = h + Wₒ SDPA(W_q LN(h), W_k LN(h), W_v LN(h)) (Vaswani et al.
    2017, eq. 1, with the norm before it as in Xiong et al. 2020), z = Σ aₙ h'ₙ with a as in
    ABMIL. It uses no positions. Time grows with N²; memory does not if torch's kernel is fused.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    heads
        Heads of the self-attention; they share the width.
    attention_dim
        L, the width of the pooling's V and U.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 256,
        heads: int = 4,
        attention_dim: int = 128,
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.width = width
        self.heads = heads
        self.attention_dim = attention_dim
        self.embedding = nn.Linear(feature_dim, width)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, pooling attention and the head's maps per class.

        The maps refer to the patches after the self-attention.
        """
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        h = h + self._attend(h)  # (N, H)
        a = by_rows(self.attention, h)[:, 0].softmax(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(a @ h),
            explanations=(
                Explanation("attention", ExplanationKind.ATTENTION, a.detach()),
                *self.head.maps(h, a),
            ),
        )

    def _attend(self, h: Tensor) -> Tensor:
        qkv = by_rows(lambda part: self.qkv(self.norm(part)), h)  # (N, 3 H)
        q, k, v = qkv.view(len(h), 3, self.heads, -1).permute(1, 2, 0, 3)  # (heads, N, H / heads)
        out = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        output: Tensor = self.projection(out.transpose(0, 1).reshape(len(h), -1))
        return output

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h
