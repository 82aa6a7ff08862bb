"""GatedAttention: how much each patch counts, before the softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


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
