"""Replay of an episode: a sequential model's state per step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.trajectory import policy_map
from napari_wsimil.progress import Progress, finish

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.protocols import SequentialModel
    from napari_wsimil.models.trajectory import Trajectory
    from napari_wsimil.progress import Work


class Replay:
    """States of a sequential model after each step.

    The states are computed again from the steps, without reading the slide.

    Parameters
    ----------
    model
        Model of the episode; its weights must stay unchanged.
    bag
        Bag of the same slide. Sub-patch features are not requested, but the model's `check` must
        pass.
    trajectory
        All steps of an episode, or the first ones of an unfinished episode.

    Notes
    -----
    Each step is repeated once, when it is first needed. A step changes the rows that it updates
    and its own. A row is updated at most once, so all updated rows take at most N · D numbers.
    Together with the coarse state, the current state, its unit rows and the displayed state these
    are 5 · N · D float32, 205 MB for 20,000 patches of 512. The state of a step is assembled from
    them, whichever step was displayed before, and is bit for bit that of an episode that ended
    there.
    """

    @torch.inference_mode()
    def __init__(self, model: SequentialModel, bag: Bag, trajectory: Trajectory) -> None:
        if trajectory.patches != len(bag):
            raise ValueError(
                f"the trajectory has {trajectory.patches} patches and the bag {len(bag)}: "
                "they are of different slides"
            )
        self._model = model
        self._trajectory = trajectory
        self._episode = model.begin(bag)
        self._coarse = self._episode.state.clone()  # (N, D)
        self._actor_start = self._episode.actor().clone()  # (N,)
        self._updated: list[Tensor] = []  # (n, D) of each step
        self._actor_after: list[Tensor] = []  # (n + 1,) of each step, its own patch last

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return len(self._trajectory.looks)

    @torch.inference_mode()
    def reach(self, step: int) -> Work[None]:
        """Repeat the first `step` steps, for immediate display.

        Yields progress before each step that was not repeated yet; the generator may be closed at
        any time. Requesting a state does the same without progress.
        """
        for look in self._trajectory.looks[len(self._updated) : step]:
            yield Progress(len(self._updated), step)
            self._episode.repeat(look)
            self._updated.append(self._episode.state[look.updated])
            self._actor_after.append(self._episode.actor()[self._episode.changed])

    @torch.inference_mode()
    def policy(self, step: int) -> Explanation:
        """Return the policy's probabilities for a step, counted from 1.

        Raises
        ------
        ValueError
            If there is no such step.
        """
        if not 1 <= step <= self.steps:
            raise ValueError(f"step {step} is none of the {self.steps} steps of this episode")
        actor = self._actor(step - 1)
        actor[self._trajectory.order[: step - 1]] = -torch.inf
        return policy_map(actor.log_softmax(dim=0), step)

    @torch.inference_mode()
    def maps(self, step: int) -> tuple[Explanation, ...]:
        """Return the maps after a number of steps, from 0.

        Raises
        ------
        ValueError
            If there are fewer steps.
        """
        if not 0 <= step <= self.steps:
            raise ValueError(
                f"step {step} must be from 0 to {self.steps}, the last of this episode"
            )
        looks = replace(self._trajectory, looks=self._trajectory.looks[:step])
        return self._model.outcome_of(self._state(step), self._actor(step), looks).explanations

    def _state(self, step: int) -> Tensor:
        """Return a copy of the (N, D) state after `step` steps."""
        finish(self.reach(step))
        fine = [look.fine for look in self._trajectory.looks[:step]]
        return self._assemble(self._coarse, self._updated[:step], fine)

    def _actor(self, step: int) -> Tensor:
        """Return the actor's (N,) logits after `step` steps, copied."""
        finish(self.reach(step))
        after = self._actor_after[:step]
        return self._assemble(self._actor_start, [a[:-1] for a in after], [a[-1] for a in after])

    def _assemble(self, start: Tensor, updated: list[Tensor], read: list[Tensor]) -> Tensor:
        """Replace rows by updated ones, then by read ones."""
        rows, looks = start.clone(), self._trajectory.looks[: len(updated)]
        if looks:
            rows[torch.cat([look.updated for look in looks])] = torch.cat(updated)
            rows[self._trajectory.order[: len(looks)]] = torch.stack(read)
        return rows
