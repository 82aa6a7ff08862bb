"""Kept: numbers that hang on one row of a state alone, renewed where rows change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.models.rows import by_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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
