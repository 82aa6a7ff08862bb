"""Gated attention, and a linear head with maps per patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from torch import Tensor


class LinearHead(nn.Linear):
    """Linear classifier: logits = W z + b.

    For a slide z = Σ aₙ hₙ, logits = Σ aₙ W hₙ + b is a sum over patches.

    Notes
    -----
    The softmax depends only on differences of logits; the rows of W therefore start with mean
    zero over the classes. With two classes training keeps them opposite, and the evidence of
    one class mirrors that of the other.
    """

    def reset_parameters(self) -> None:
        """Draw W as `nn.Linear`, centered over classes; b is 0."""
        if self.weight.is_meta:  # weights are loaded from a checkpoint later
            return
        super().reset_parameters()
        with torch.no_grad():
            self.weight -= self.weight.mean(dim=0)
            self.bias.zero_()

    @torch.no_grad()
    def maps(self, h: Tensor, a: Tensor) -> tuple[Explanation, ...]:
        """Return evidence per class, then patch logits per class.

        Parameters
        ----------
        h
            (N, H) embedded patches.
        a
            (N,) attention, or (N, C) where each class has its own.

        Returns
        -------
        "evidence: c"
            aₙ w_c·hₙ, signed; its sum over patches is the slide's logit of c minus b_c.
        "patch logit: c"
            The logit of a slide of patch n alone, w_c·hₙ + b_c, minus the mean over classes. It
            ignores attention.
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
    """Return the maps "patch logit: c".

    Row n of the (N, C) logits is that of a slide of patch n alone.
    """
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
    """Gated attention scores (Ilse et al. 2018, eq. 9).

    e = W (tanh(V h) ⊙ sigmoid(U h)).

    Parameters
    ----------
    width
        H, the width of an embedded patch.
    hidden
        L, the width of V and U.
    branches
        M, the number of scores per patch; they share V and U.
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
