"""LinearHead: a linear classifier of the slide, and what each patch brings to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from torch import Tensor


class LinearHead(nn.Linear):
    """logits = W z + b of a slide z = Σ aₙ hₙ, so that logits = Σ aₙ W hₙ + b.

    Notes
    -----
    The softmax sees only differences of logits; the rows of W therefore start with mean
    zero over the classes. With two classes training keeps them opposite, and the two
    classes' evidence mirror each other.
    """

    def reset_parameters(self) -> None:
        """Draw W as `nn.Linear` does, then center it over the classes; b starts at 0."""
        if self.weight.is_meta:  # a checkpoint's weights are to follow
            return
        super().reset_parameters()
        with torch.no_grad():
            self.weight -= self.weight.mean(dim=0)
            self.bias.zero_()

    @torch.no_grad()
    def maps(self, h: Tensor, a: Tensor) -> tuple[Explanation, ...]:
        """Return, for each class, its evidence; then, for each class, its patch logits.

        Parameters
        ----------
        h
            (N, H) embedded patches.
        a
            (N,) attention, or (N, C) where each class has its own.

        Returns
        -------
        "evidence: c"
            aₙ w_c·hₙ, signed; sums over the patches to the slide's logit of c less b_c.
        "patch logit: c"
            The logit that patch n alone would give the slide, w_c·hₙ + b_c, less the mean
            of the classes. It takes no account of attention.
        """
        share = h @ self.weight.T  # (N, C)
        alone = share + self.bias  # (N, C)
        evidence = a.view(len(h), -1) * share  # (N, C)
        alone = alone - alone.mean(dim=1, keepdim=True)
        return (
            *_per_class("evidence", ExplanationKind.EVIDENCE, evidence),
            *patch_logits(alone),
        )


def patch_logits(alone: Tensor) -> tuple[Explanation, ...]:
    """Return the maps "patch logit: c" of (N, C) logits of slides of one patch each."""
    return _per_class("patch logit", ExplanationKind.SCORE, alone, "logit")


def _per_class(
    name: str, kind: ExplanationKind, scores: Tensor, unit: str = ""
) -> tuple[Explanation, ...]:  # scores (N, C)
    return tuple(
        Explanation(
            f"{name}: {c}", kind, column.contiguous(), class_index=c, family=name, unit=unit
        )
        for c, column in enumerate(scores.T)
    )


class GatedAttention(nn.Module):
    """e = W (tanh(V h) ⊙ sigmoid(U h)) (Ilse et al. 2018, eq. 9).

    Parameters
    ----------
    width
        H, the width of an embedded patch.
    hidden
        L, the width of V and U.
    branches
        M, how many scores a patch gets; V and U are shared by them.
    """

    def __init__(self, width: int, hidden: int, branches: int = 1) -> None:
        super().__init__()
        self.tanh = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, branches)

    def forward(self, h: Tensor) -> Tensor:
        """Return (N, M) scores of (N, H) patches."""
        e: Tensor = self.score(self.tanh(h).tanh() * self.gate(h).sigmoid())
        return e
