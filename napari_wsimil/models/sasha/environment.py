"""Environment: the state of a slide under looks, in training and in use alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.models.sasha.updater import StateUpdater

SPARSE = 0.5  # share of the kept rows that is still open, below which they are drawn together


def looks(patches: int, budget: float) -> int:
    """Return T = ⌈N · budget⌉, at least 1 and at most N."""
    return min(patches, max(1, math.ceil(patches * budget - 1e-9)))


class Environment:
    """S_t: each patch coarse, looked at, or updated by a look at one that resembles it.

    A look at a: s_a becomes v_a; every open patch i with cos(s_i, s_a) ≥ τ on the state
    before is moved by the updater. A patch is open until it was looked at or updated, so
    each is updated once at most; none is looked at twice.

    Parameters
    ----------
    z
        (N, D) standardized coarse features, S_0; not changed.
    updater
        The state update.
    tau
        τ, signed: above 1 nothing is ever updated, at -1 all that is open is.

    Attributes
    ----------
    state
        (N, D) S_t, changed in place.
    visited
        (N,) bool, the patches looked at.

    Notes
    -----
    An open patch is as it was at the start, so unit rows are made once, only the open ones
    are compared, and what resembles a patch can be found for several at once, before they
    are looked at (`foresee`): a product of matrices reads the rows once for all of them. No
    approximation, whatever the number of steps.
    """

    def __init__(self, z: Tensor, updater: StateUpdater, tau: float) -> None:
        self.state = z.clone()
        self.visited = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self._updater = updater
        self._tau = tau
        self._open = torch.ones(len(z), dtype=torch.bool, device=z.device)
        self._left = len(z)  # how many are open
        self._index = torch.arange(len(z), device=z.device)
        self._unit = F.normalize(z, dim=1)  # of the rows in _index
        self._alike: dict[int, Tensor] = {}

    def foresees(self, patch: int) -> bool:
        """Return whether it is known what resembles a patch as it now is."""
        return patch in self._alike

    def foresee(self, patches: Tensor) -> None:
        """Find what resembles each of (B,) `patches` as they now are."""
        unit = F.normalize(self.state[patches], dim=1)  # (B, D)
        alike = unit @ self._unit.T >= self._tau  # (B, n)
        found = self._index[alike.nonzero()[:, 1]]
        parts = found.split(alike.sum(dim=1).tolist())
        self._alike.update(zip(patches.tolist(), parts, strict=True))

    def look(self, patch: int, v: Tensor) -> Tensor:
        """Return the (n,) patches that a look at `patch`, which shows (D,) `v`, updates."""
        if self.visited[patch]:
            raise ValueError(f"patch {patch} was looked at before")
        if not self.foresees(patch):
            self.foresee(torch.tensor([patch], device=v.device))
        self._open[patch] = False
        alike = self._alike[patch]
        updated = alike[self._open[alike]]
        self.repeat(patch, v, updated)
        return updated

    def repeat(self, patch: int, v: Tensor, updated: Tensor) -> None:
        """Do a look over again, knowing which patches it updates."""
        if len(updated):
            self.state[updated] = self._updater(v, self.state[patch], self.state[updated])
        self.state[patch] = v
        self.visited[patch] = True
        self._left -= int(self._open[patch]) + len(updated)
        self._open[patch] = False
        self._open[updated] = False
        for changed in (patch, *updated.tolist()):
            self._alike.pop(changed, None)
        if self._left < SPARSE * len(self._index):
            self._compact()

    def _compact(self) -> None:
        kept = self._open[self._index]
        self._index, self._unit = self._index[kept], self._unit[kept]
        self._left = len(self._index)
