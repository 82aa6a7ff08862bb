"""StateUpdater: what a look at one patch says of the patches that resemble it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.layers.chunked import by_rows

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Kept:
    """f(s_n) of every patch, as a (F, N) table.

    Parameters
    ----------
    function
        (n, D) → (n, F), each row alone.
    state
        (N, D).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], state: Tensor) -> None:
        self._function = function
        self.values = by_rows(function, state).T.contiguous()

    def renew(self, state: Tensor, changed: Tensor) -> None:
        """Compute the columns of the (n,) rows of `state` that have changed."""
        self.values[:, changed] = self._function(state[changed]).T


def pooled(e: Tensor, share: Tensor) -> Tensor:
    """Return (C,) Σ āₙ yₙ, ā the mean over branches of the softmax of (M, N) `e`.

    With (C, N) shares yₙ = W sₙ this is what a linear head says of the pooled state, W z:
    the state itself need not be read again, and nothing is added and taken away, so that no
    error grows with the steps.
    """
    return share @ e.softmax(dim=1).mean(dim=0)
