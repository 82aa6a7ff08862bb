"""Trajectory: which patches were looked at, in what order, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Look:
    """One step.

    Attributes
    ----------
    patch
        Which patch was read finely.
    log_probability, entropy
        Of this patch under the policy before the look, and of the policy, in nats.
    probabilities
        (C,) of the slide after it.
    updated
        (n,) int64, the patches whose state it moved, this one not among them.
    fine
        (D,) v of the patch, standardized.
    attention
        (k,) over its sub-patches, in the order of the bag's finer features.
    """

    patch: int
    log_probability: float
    entropy: float
    probabilities: Tensor
    updated: Tensor
    fine: Tensor
    attention: Tensor


@dataclass(frozen=True, eq=False)
class Trajectory:
    """An episode, or as much of it as there was.

    Attributes
    ----------
    patches
        N.
    start
        (C,) probabilities of the slide before the first look.
    looks
        T steps, in order.

    Notes
    -----
    The states are not kept, nor the policies: `SASHA.replay` makes those of any step again
    from the looks, without the encoder.
    """

    patches: int
    start: Tensor
    looks: tuple[Look, ...]

    @property
    def order(self) -> Tensor:
        """Return (T,) int64, the patches looked at, first to last."""
        return torch.tensor([look.patch for look in self.looks], dtype=torch.int64)

    @property
    def probabilities(self) -> Tensor:
        """Return (T + 1, C): before the first look, then after each."""
        return torch.stack([self.start, *(look.probabilities for look in self.looks)])

    @property
    def attention(self) -> Tensor:
        """Return (T, k) over the sub-patches of each patch looked at."""
        return torch.stack([look.attention for look in self.looks])

    @property
    def encoder_calls(self) -> int:
        """Return the images the encoder must see: every patch coarsely, then the looks."""
        return self.patches + sum(len(look.attention) for look in self.looks)

    @property
    def full_calls(self) -> int:
        """Return the images of reading all patches finely, which needs no coarse pass."""
        return self.patches * len(self.looks[0].attention) if self.looks else 0


def policy_map(policy: Tensor, step: int) -> Explanation:
    """Return the probabilities of look `step`, of (N,) log-probabilities."""
    name, unit = f"policy of look {step}", "probability to be looked at next"
    return Explanation(name, ExplanationKind.AMOUNT, policy.exp(), unit=unit)
