"""StateUpdater: update of patches similar to one that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_wsimil.models.layers.chunked import by_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


START = 0.1  # factor of the initial weights: an update starts close to the identity


class StateUpdater(nn.Module):
    """Targeted state update (TSU) of similar patches.

    s'ᵢ = sᵢ + W₂ GELU(W₁ [v_a, s_a, sᵢ] + b₁) + b₂. Patch a was read at high resolution, so that
    its coarse s_a became v_a; similar patches i are changed in the same way.

    Parameters
    ----------
    feature_dim
        D. The hidden width is 2 D, as in the paper (384 → 768).

    Notes
    -----
    The inputs are in the order of the authors' program. That program ends in a LayerNorm and has
    no residual; on standardized features the residual form without LayerNorm trains in seconds,
    because it starts close to the identity.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * feature_dim, 2 * feature_dim)
        self.change = nn.Linear(2 * feature_dim, feature_dim)
        with torch.no_grad():
            self.change.weight *= START
            self.change.bias.zero_()

    def forward(self, v_a: Tensor, s_a: Tensor, s: Tensor) -> Tensor:
        """Return (n, D) new states of similar patches `s`.

        Patch a changed from (D,) `s_a` to `v_a`.
        """
        w_v, w_a, w_i = self.hidden.weight.chunk(3, dim=1)  # (2 D, D) each
        shared = w_v @ v_a + w_a @ s_a + self.hidden.bias  # (2 D,), the same for all patches
        updates: Tensor = s + self.change(nn.functional.gelu(s @ w_i.T + shared))
        return updates


class Kept:
    """Cache of f(s_n) of every patch, an (F, N) table.

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
        """Recompute the columns of the (n,) changed rows of `state`."""
        self.values[:, changed] = self._function(state[changed]).T


def pooled(e: Tensor, share: Tensor) -> Tensor:
    """Return (C,) Σ āₙ yₙ, the pooled contributions.

    ā is the mean over branches of the softmax of (M, N) `e`. With (C, N) contributions yₙ = W sₙ
    this equals a linear head on the pooled state, W z: the state itself need not be read again,
    and nothing is added and subtracted, so that no error grows with the steps.
    """
    return share @ e.softmax(dim=1).mean(dim=0)
