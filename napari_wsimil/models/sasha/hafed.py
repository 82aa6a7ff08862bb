"""HAFED: classifier of SASHA on the sub-patches of all patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from napari_wsimil.models.acmil import attention_maps, mask_top, similarity
from napari_wsimil.models.base import MILModel, MILOutput, Need
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead
from napari_wsimil.models.losses import criterion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_wsimil.features.bag import Bag

FINE_ROWS = 256  # most patches of one piece of computed sub-patch features


class HAFED(MILModel):
    """Attention over sub-patches, then over patches (SASHA, NeurIPS 2025).

    The hierarchical attention-based feature distiller. Stage 1: a_n = softmax over the k
    sub-patches of wᵀ(tanh(V u) ⊙ sigmoid(U u)), v_n = Σⱼ aₙⱼ uₙⱼ, of the (standardized)
    features themselves: v_n is in the space of the features, so that patches read at high
    resolution can be combined with others. Stage 2 is ACMIL on v, without an embedding. Both
    stages mask some of their top attention in training (STKIM).

    Parameters
    ----------
    feature_dim, classes
        D and C.
    attention_dim
        L, of both stages.
    branches
        M, of stage 2; stage 1 has one.
    fine_masked, masked
        K, the number of top sub-patches of a patch and of top patches of a branch that may be
        masked.
    mask_rate
        p, the masked share of these, below 1.

    Notes
    -----
    Low-resolution `bag.features` are not classified, but their mean and scale standardize
    both kinds of features. The diversity term is that of ACMIL (eq. 5), between branches; the
    authors' program compares patches there instead. Stage 1 has a single branch, so it has no
    such term.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FINER})

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        attention_dim: int = 128,
        branches: int = 5,
        fine_masked: int = 10,
        masked: int = 20,
        mask_rate: float = 0.24,
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if branches < 1 or min(fine_masked, masked) < 0 or not 0 <= mask_rate < 1:
            raise ValueError(
                f"branches {branches} must be ≥ 1, fine_masked {fine_masked} and "
                f"masked {masked} ≥ 0 and mask_rate {mask_rate} in [0, 1)"
            )
        self.attention_dim = attention_dim
        self.branches = branches
        self.fine_masked = fine_masked
        self.masked = masked
        self.mask_rate = mask_rate
        self.fine_attention = GatedAttention(feature_dim, attention_dim)
        self.attention = GatedAttention(feature_dim, attention_dim, branches)
        self.head = LinearHead(feature_dim, classes)
        self.branch_heads = nn.ModuleList(
            nn.Linear(feature_dim, classes) for _ in range(branches if branches > 1 else 0)
        )

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits and maps.

        The maps are the mean attention, each branch's attention, and the head's maps.
        """
        self.check(bag)
        return self.classify(torch.cat([self.distill(u)[0] for u in fine_parts(bag)]))

    def distill(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and attention of n patches.

        They are (n, D) and (n, k). `u` is (n, k, D), the features of their sub-patches.
        """
        u = self.standardize(u)  # (n, k, D)
        e = self.fine_attention(u)[..., 0]  # (n, k)
        if self.training:
            e = mask_top(e, self.fine_masked, self.mask_rate, "fixed")
        a = e.softmax(dim=1)  # (n, k)
        return (a[:, None] @ u)[:, 0], a

    def classify(self, s: Tensor) -> MILOutput:
        """Return stage 2's output for (N, D) patches.

        Each patch may be coarse, fine or updated.
        """
        e = by_rows(self.attention, s).T  # (M, N)
        if self.training:
            e = mask_top(e, self.masked, self.mask_rate, "fixed")
        a = e.softmax(dim=1)  # (M, N)
        mean = a.mean(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(mean @ s),
            explanations=(*attention_maps(mean, a), *self.head.maps(s, mean)),
            branches=self._branches(a, s) if self.branches > 1 else {},
        )

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return CE(slide), mean CE of branches, and their mean similarity."""
        terms = super().loss(output, target)
        if self.branches > 1:
            terms["branches"] = criterion(output.branches["logits"], target)
            terms["diversity"] = output.branches["similarity"]
        return terms

    def check(self, bag: Bag) -> None:
        """Raise ValueError also if sub-patch features have another shape."""
        super().check(bag)
        check_finer(bag)

    def _branches(self, a: Tensor, s: Tensor) -> dict[str, Tensor]:
        z = a @ s  # (M, D)
        logits = [head(z_m) for head, z_m in zip(self.branch_heads, z, strict=True)]
        return {"logits": torch.stack(logits), "similarity": similarity(a)}


def check_finer(bag: Bag) -> None:
    """Raise ValueError if stored sub-patch features are invalid.

    They must be finite and (N, k, D) with the bag's own N and D.
    """
    finer = bag.finer
    if isinstance(finer, torch.Tensor):
        n, dim = bag.features.shape
        shape = tuple(finer.shape)
        if finer.ndim != 3 or finer.shape[1] < 1 or (len(finer), finer.shape[2]) != (n, dim):
            raise ValueError(f"sub-patch features must be ({n}, k, {dim}), not {shape}")
        if not torch.isfinite(finer).all():
            raise ValueError("sub-patch features are NaN or infinite: extract again")


def fine_of(bag: Bag, patch: int) -> Tensor:
    """Return (k, D) features of a patch's sub-patches.

    They are computed if they are not stored.

    Raises
    ------
    ValueError
        If they are missing, not finite or not of the bag's width.
    """
    if bag.finer is None:
        raise ValueError("the bag has no sub-patch features: extract them")
    u = bag.finer[patch] if isinstance(bag.finer, torch.Tensor) else bag.finer(patch)
    if u.ndim != 2 or u.shape[1] != bag.features.shape[1]:
        raise ValueError(
            f"sub-patch features of patch {patch} must be (k, {bag.features.shape[1]}), "
            f"not {tuple(u.shape)}"
        )
    if not torch.isfinite(u).all():
        raise ValueError(f"sub-patch features of patch {patch} are NaN or infinite")
    return u.to(bag.features)


def fine_parts(bag: Bag) -> Iterator[Tensor]:
    """Yield (n, k, D) sub-patch features, n at most `FINE_ROWS`."""
    if isinstance(bag.finer, torch.Tensor):
        yield from (part.to(bag.features) for part in bag.finer.split(FINE_ROWS))
        return
    for index in torch.arange(len(bag)).split(FINE_ROWS):
        yield torch.stack([fine_of(bag, patch) for patch in index.tolist()])
