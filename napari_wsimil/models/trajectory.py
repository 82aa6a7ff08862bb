"""Trajectory: steps of an episode and their effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Look:
    """One step of an episode: reading one patch at high resolution.

    Attributes
    ----------
    patch
        Index of the patch.
    log_probability, entropy
        Log-probability of this patch under the policy before the step, and entropy of that
        policy, in nats.
    probabilities
        (C,) of the slide after the step.
    updated
        (n,) int64, the other patches with states updated by the step.
    fine
        (D,) v of the patch, standardized.
    attention
        (k,) over its sub-patches, in the order of the bag's sub-patch features.
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
    """A complete or partial episode.

    Attributes
    ----------
    patches
        N.
    start
        (C,) probabilities of the slide before the first step.
    looks
        T steps, in order.

    Notes
    -----
    States and policies are not stored: `SASHA.replay` recomputes those of any step from the
    recorded steps, without the encoder.
    """

    patches: int
    start: Tensor
    looks: tuple[Look, ...]

    @property
    def order(self) -> Tensor:
        """Return (T,) int64, the patches in the order of reading."""
        return torch.tensor([step.patch for step in self.looks], dtype=torch.int64)

    @property
    def probabilities(self) -> Tensor:
        """Return (T + 1, C) probabilities before and after each step."""
        return torch.stack([self.start, *(step.probabilities for step in self.looks)])

    @property
    def attention(self) -> Tensor:
        """Return (T, k) attention over the sub-patches of each step."""
        return torch.stack([step.attention for step in self.looks])

    @property
    def encoder_calls(self) -> int:
        """Return the number of images encoded.

        Every patch at low resolution, then the sub-patches of each step.
        """
        return self.patches + sum(len(step.attention) for step in self.looks)

    @property
    def full_calls(self) -> int:
        """Return the number of sub-patches of all patches.

        Reading all of them needs no low-resolution pass. 0 before the first step.
        """
        return self.patches * len(self.looks[0].attention) if self.looks else 0


def policy_map(policy: Tensor, step: int) -> Explanation:
    """Return the policy of step `step` as a map.

    Its scores are the probabilities of the (N,) log-probabilities `policy`.
    """
    name, unit = f"policy of look {step}", "probability of being read next"
    return Explanation(name, ExplanationKind.AMOUNT, policy.exp(), unit=unit)
