"""StateUpdater: what a look at one patch says of the patches that resemble it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

START = 0.1  # of the usual size of first weights: at first a state hardly moves


class StateUpdater(nn.Module):
    """s'ᵢ = sᵢ + W₂ GELU(W₁ [v_a, s_a, sᵢ] + b₁) + b₂, the targeted state update (TSU).

    A patch a was read finely, so that its coarse s_a became v_a; patches i that look like
    it are moved as it was.

    Parameters
    ----------
    feature_dim
        D. The hidden width is 2 D, as in the paper (384 → 768).

    Notes
    -----
    The inputs are in the order of the authors' program. They end in a LayerNorm and have no
    residual; on standardized features it is the residual form without LayerNorm that
    trains in seconds, since at first it nearly leaves a patch as it was.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * feature_dim, 2 * feature_dim)
        self.change = nn.Linear(2 * feature_dim, feature_dim)
        with torch.no_grad():
            self.change.weight *= START
            self.change.bias.zero_()

    def forward(self, v_a: Tensor, s_a: Tensor, s: Tensor) -> Tensor:
        """Return the (n, D) new states of patches `s`, after (D,) `s_a` became `v_a`."""
        w_v, w_a, w_i = self.hidden.weight.chunk(3, dim=1)  # (2 D, D) each
        shared = w_v @ v_a + w_a @ s_a + self.hidden.bias  # (2 D,), the same for all patches
        moved: Tensor = s + self.change(nn.functional.gelu(s @ w_i.T + shared))
        return moved
