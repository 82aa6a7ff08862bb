"""ACMIL: diverse attention branches (Zhang et al., ECCV 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead
from napari_wsimil.models.losses import criterion

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class ACMIL(MILModel):
    """Gated attention in M branches that attend to different patches.

    h = ReLU(W x̂), no bias; branch m has aₘ = softmax(wₘᵀ(tanh(V h) ⊙ sigmoid(U h))) and
    its own head on Σ aₘₙ hₙ (multiple branch attention, MBA); the slide's logits come
    from the mean attention ā = mean aₘ. In training each branch loses some of its top
    patches before the softmax (stochastic top-K instance masking, STKIM).

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    attention_dim
        L, the width of V and U.
    branches
        M. With one branch and nothing masked this is gated ABMIL.
    masked
        K, the number of a branch's top patches that may be masked.
    mask_rate
        p, the masked share of these, below 1.
    stkim
        "fixed" masks exactly int(K·p) of the top K, as in the authors' program;
        "bernoulli" masks each with probability p, as in their paper.
    """

    survives: ClassVar[bool] = True

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 256,
        attention_dim: int = 128,
        branches: int = 5,
        masked: int = 10,
        mask_rate: float = 0.6,
        stkim: str = "fixed",
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if branches < 1 or masked < 0 or not 0 <= mask_rate < 1:
            raise ValueError(
                f"branches {branches} must be ≥ 1, masked {masked} ≥ 0 "
                f"and mask_rate {mask_rate} in [0, 1)"
            )
        if stkim not in ("fixed", "bernoulli"):
            raise ValueError(f'stkim must be "fixed" or "bernoulli", not "{stkim}"')
        self.width = width
        self.attention_dim = attention_dim
        self.branches = branches
        self.masked = masked
        self.mask_rate = mask_rate
        self.stkim = stkim
        self.embedding = nn.Linear(feature_dim, width, bias=False)
        self.attention = GatedAttention(width, attention_dim, branches)
        self.head = LinearHead(width, classes)
        self.branch_heads = nn.ModuleList(
            nn.Linear(width, classes) for _ in range(branches if branches > 1 else 0)
        )

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits and maps.

        The maps are the mean attention, each branch's attention, and the head's maps.
        """
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        e = by_rows(self.attention, h).T  # (M, N)
        if self.training:
            e = mask_top(e, self.masked, self.mask_rate, self.stkim)
        a = e.softmax(dim=1)  # (M, N)
        mean = a.mean(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(mean @ h),
            explanations=(*attention_maps(mean, a), *self.head.maps(h, mean)),
            branches=self._branches(a, h) if self.branches > 1 else {},
        )

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return CE(slide), mean CE of branches, and their mean similarity."""
        terms = super().loss(output, target)
        if self.branches > 1:
            logits = output.branches["logits"]  # (M, C)
            terms["branches"] = criterion(logits, target)
            terms["diversity"] = output.branches["similarity"]
        return terms

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h

    def _branches(self, a: Tensor, h: Tensor) -> dict[str, Tensor]:
        z = a @ h  # (M, H)
        logits = [head(z_m) for head, z_m in zip(self.branch_heads, z, strict=True)]
        return {"logits": torch.stack(logits), "similarity": similarity(a)}


def mask_top(e: Tensor, masked: int, rate: float, stkim: str) -> Tensor:
    """Return (M, N) scores with some top scores hidden (STKIM).

    Of the `masked` largest of each row the share `rate` is hidden.
    """
    top = e.topk(min(masked, e.shape[1]), dim=1)  # (M, K)
    draw = torch.rand(top.values.shape, device=e.device)
    if stkim == "fixed":
        hidden = draw.argsort(dim=1).argsort(dim=1) < int(draw.shape[1] * rate)
    else:
        hidden = draw < rate
    least = torch.finfo(e.dtype).min  # the softmax turns it into 0
    return e.scatter(1, top.indices, top.values.masked_fill(hidden, least))


def similarity(a: Tensor) -> Tensor:
    """Return the mean cosine of all pairs of rows.

    The attention is (M, N) with M > 1.
    """
    unit = F.normalize(a, dim=1)
    i, j = torch.triu_indices(len(a), len(a), offset=1)  # the pairs i < j
    return (unit @ unit.T)[i, j].mean()


def attention_maps(mean: Tensor, a: Tensor) -> tuple[Explanation, ...]:
    """Return the mean attention map, then one per branch.

    `mean` is (N,), `a` is (M, N). A single branch has no map of its own.
    """
    kind = ExplanationKind.ATTENTION
    each = enumerate(a.detach(), 1) if len(a) > 1 else ()
    return (
        Explanation("attention", kind, mean.detach()),
        *(Explanation(f"branch {m}", kind, a_m, family="branch") for m, a_m in each),
    )
