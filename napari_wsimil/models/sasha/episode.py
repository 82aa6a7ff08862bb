"""Episode: a slide being looked at, step by step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.sasha.environment import Environment, looks
from napari_wsimil.models.sasha.trajectory import Look, Trajectory
from napari_wsimil.models.sasha.updater import Kept, pooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_wsimil.models.sasha.model import SASHA

AHEAD = 16  # likely next looks for which it is found at once what resembles them


class Episode:
    """What `SASHA` knows of a slide after some looks; exact, and cheap at each step.

    Per patch are kept the actor's logit, the M attention scores and what each class's head
    makes of it; a look renews those of the rows it changed.

    Parameters
    ----------
    model
        Whose weights are used; nothing here has gradients.
    z
        (N, D) standardized coarse features.
    read
        Patch → v (D,) and its attention (k,): the only way to fine features.

    Attributes
    ----------
    steps
        T, how many looks there are.
    looks
        Those that were.
    """

    @torch.no_grad()
    def __init__(
        self, model: SASHA, z: Tensor, read: Callable[[int], tuple[Tensor, Tensor]]
    ) -> None:
        self.steps = looks(len(z), model.budget)
        self.looks: list[Look] = []
        self._model = model
        self._read = read
        self._environment = Environment(z, model.updater, model.threshold.item())
        self._kept = Kept(partial(_per_row, model), z)  # no cycle: it is freed as it is let go
        self._start = self.probabilities()

    @property
    def state(self) -> Tensor:
        """Return the (N, D) present state; it changes with the next look."""
        return self._environment.state

    @property
    def changed(self) -> Tensor:
        """Return the (n,) rows that the last look changed."""
        last = self.looks[-1]
        return torch.cat([last.updated, last.updated.new_tensor([last.patch])])

    def policy(self) -> Tensor:
        """Return (N,) log-probabilities of the next look; -inf where one was."""
        return self._masked().log_softmax(dim=0)

    def best(self) -> int:
        """Return the patch of the actor's highest logit among those not yet looked at.

        Logits that differ in their last bits may be equal as log-probabilities.
        """
        return int(self._masked().argmax())

    def actor(self) -> Tensor:
        """Return the actor's (N,) logits, before patches already looked at are hidden."""
        return self._kept.values[0]

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Return (C,) of the slide, in its present state."""
        m = self._model.branches
        e, share = self._kept.values[1 : 1 + m], self._kept.values[1 + m :]
        logits: Tensor = pooled(e, share) + self._model.head.bias
        return logits.softmax(dim=0)

    @torch.no_grad()
    def look(self, patch: int, policy: Tensor) -> Look:
        """Return what a look at `patch`, chosen by `policy`, came to."""
        v, attention = self._read(patch)
        if not self._environment.foresees(patch):
            ahead = policy.topk(min(AHEAD, self.steps - len(self.looks))).indices
            self._environment.foresee(torch.cat([ahead, ahead.new_tensor([patch])]).unique())
        updated = self._environment.look(patch, v)
        return self._note(patch, policy, updated, v, attention)

    @torch.no_grad()
    def repeat(self, look: Look) -> None:
        """Do a look over again, without reading the patch."""
        self._environment.repeat(look.patch, look.fine, look.updated)
        self.looks.append(look)
        self._kept.renew(self.state, self.changed)

    def trajectory(self) -> Trajectory:
        """Return what was seen so far."""
        return Trajectory(len(self.state), self._start, tuple(self.looks))

    def _masked(self) -> Tensor:
        return self.actor().masked_fill(self._environment.visited, -torch.inf)

    def _note(
        self, patch: int, policy: Tensor, updated: Tensor, v: Tensor, attention: Tensor
    ) -> Look:
        changed = torch.cat([updated, updated.new_tensor([patch])])
        self._kept.renew(self.state, changed)
        look = Look(
            patch=patch,
            log_probability=policy[patch].item(),
            entropy=entropy(policy).item(),
            probabilities=self.probabilities(),
            updated=updated,
            fine=v,
            attention=attention,
        )
        self.looks.append(look)
        return look


def _per_row(model: SASHA, s: Tensor) -> Tensor:
    share = s @ model.head.weight.T  # (n, C)
    return torch.cat([model.actor(s), model.attention(s), share], dim=1)  # (n, 1 + M + C)


def entropy(policy: Tensor) -> Tensor:
    """Return (...) the entropy in nats of (..., N) log-probabilities, some of them -inf."""
    return -(policy.exp() * policy.clamp_min(torch.finfo(policy.dtype).min)).sum(dim=-1)
