"""Environment of SASHA: a slide's state, in training and use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.models.sasha.updater import StateUpdater

SPARSE = 0.5  # share of open rows below which the others are removed


def looks(patches: int, budget: float) -> int:
    """Return the number of steps of an episode.

    T = ⌈N · budget⌉, at least 1 and at most N.
    """
    return min(patches, max(1, math.ceil(patches * budget - 1e-9)))


class Environment:
    """State S_t of a slide: patches coarse, read, or updated.

    A step at patch a replaces s_a by v_a; every open patch i with cos(s_i, s_a) ≥ τ on the state
    before the step is changed by the updater. A patch is open until it is read or updated, so
    each is updated at most once, and none is read twice.

    Parameters
    ----------
    z
        (N, D) standardized coarse features, S_0; not changed.
    updater
        The state update.
    tau
        τ, signed: above 1 no patch is ever updated, at -1 all open patches are.

    Attributes
    ----------
    state
        (N, D) S_t, changed in place.
    visited
        (N,) bool, the patches that were read.

    Notes
    -----
    An open patch has its initial features. Unit rows are therefore computed once, only open
    patches are compared, and the similar patches of several candidates can be computed at once,
    before they are read (`foresee`): one matrix product reads the rows once for all of them. The
    result is exact for any number of steps.
    """

    def __init__(self, z: Tensor, updater: StateUpdater, tau: float) -> None:
        self.state = z.clone()
        self.visited = torch.zeros(len(z), dtype=torch.bool, device=z.device)
        self._updater = updater
        self._tau = tau
        self._open = torch.ones(len(z), dtype=torch.bool, device=z.device)
        self._left = len(z)  # number of open patches
        self._index = torch.arange(len(z), device=z.device)
        self._unit = F.normalize(z, dim=1)  # of the rows in _index
        self._similar: dict[int, Tensor] = {}

    def foresees(self, patch: int) -> bool:
        """Return whether a patch's similar patches are cached."""
        return patch in self._similar

    def foresee(self, patches: Tensor) -> None:
        """Compute similar patches of (B,) `patches` in the present state."""
        unit = F.normalize(self.state[patches], dim=1)  # (B, D)
        similar = unit @ self._unit.T >= self._tau  # (B, n)
        members = self._index[similar.nonzero()[:, 1]]
        parts = members.split(similar.sum(dim=1).tolist())
        self._similar.update(zip(patches.tolist(), parts, strict=True))

    def look(self, patch: int, v: Tensor) -> Tensor:
        """Read a patch; return the (n,) patches that it updates.

        `v` is (D,), its features at high resolution. ValueError if it was read before.
        """
        if self.visited[patch]:
            raise ValueError(f"patch {patch} was looked at before: choose an unread patch")
        if not self.foresees(patch):
            self.foresee(torch.tensor([patch], device=v.device))
        self._open[patch] = False
        similar = self._similar[patch]
        updated = similar[self._open[similar]]
        self.repeat(patch, v, updated)
        return updated

    def repeat(self, patch: int, v: Tensor, updated: Tensor) -> None:
        """Repeat a recorded step with its updated patches."""
        if len(updated):
            self.state[updated] = self._updater(v, self.state[patch], self.state[updated])
        self.state[patch] = v
        self.visited[patch] = True
        self._left -= int(self._open[patch]) + len(updated)
        self._open[patch] = False
        self._open[updated] = False
        for changed in (patch, *updated.tolist()):
            self._similar.pop(changed, None)
        if self._left < SPARSE * len(self._index):
            self._compact()

    def _compact(self) -> None:
        still_open = self._open[self._index]
        self._index, self._unit = self._index[still_open], self._unit[still_open]
        self._left = len(self._index)
