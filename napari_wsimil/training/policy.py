"""Settings, critic and inputs of the policy's training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.layers.pooling import GatedAttention

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reading:
    """Coarse and distilled features of a slide.

    Attributes
    ----------
    z, v
        (N, D) standardized coarse features, and sub-patch features distilled by HAFED.
    target
        Class of the slide.
    """

    z: Tensor
    v: Tensor
    target: int

    def read(self, patch: int) -> tuple[Tensor, Tensor]:
        """Return v of a patch and an empty attention, for `Episode`."""
        return self.v[patch], self.v.new_empty(0)


@dataclass(frozen=True)
class PolicyConfig:
    """Training settings of the policy.

    Attributes
    ----------
    epochs
        Passes over the slides; 0 leaves the actor unchanged.
    roll_outs
        Episodes sampled from a slide before each round of updates.
    updates
        Optimizer steps in a round.
    replayed
        Most steps of an episode, drawn at random, in a round of updates. Their states are
        recomputed by replay, since storing all takes T · N · D numbers.
    lr, critic_lr, weight_decay
        Constant settings of AdamW.
    clip
        ε, clipping range of the probability ratio.
    entropy
        Weight of the entropy bonus.
    discount, smoothing
        γ and λ of the generalized advantage estimate.
    norm
        Largest norm of a gradient.
    """

    epochs: int = 2
    roll_outs: int = 2
    updates: int = 4
    replayed: int = 12
    lr: float = 3e-4
    critic_lr: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 0.2
    entropy: float = 1e-3
    discount: float = 1.0
    smoothing: float = 0.95
    norm: float = 0.5


class Critic(nn.Module):
    """V(S) = w·Σ aₙ sₙ + c, a = softmax(attention).

    Parameters
    ----------
    feature_dim, attention_dim
        D and L of the gated attention; no weights are shared with the actor.
    """

    def __init__(self, feature_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.attention = GatedAttention(feature_dim, attention_dim)
        self.value = nn.Linear(feature_dim, 1)

    def forward(self, s: Tensor) -> Tensor:
        """Return (...) expected future rewards of states (..., N, D)."""
        a = self.attention(s)[..., 0].softmax(dim=-1)  # (..., N)
        value: Tensor = self.value((a[..., None, :] @ s)[..., 0, :])[..., 0]
        return value

    def per_row(self, s: Tensor) -> Tensor:
        """Return (n, 2), attention score and value without c."""
        return torch.cat([self.attention(s), s @ self.value.weight.T], dim=1)
