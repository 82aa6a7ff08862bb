"""Replay: the looks of an episode over again, at any step, forth and back."""

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
    """What a model knew of a slide after any of its looks, without reading the slide again.

    Parameters
    ----------
    model
        Whose looks they are; its weights must stay as they are.
    bag
        Of the same slide. Finer features are not asked for, but the model's `check` is.
    trajectory
        All looks of an episode, or the first ones of one that is under way or was stopped.

    Notes
    -----
    Looks are done over again once, as far as they are asked for. A look changes the rows it
    updates and its own; since a row is updated once at most, what the rows became takes no
    more than N · D numbers. With the coarse state, the one in the making, its unit rows and
    the one that is shown these are 5 · N · D float32, 205 MB for 20,000 patches of 512. A
    step is laid together from them, whatever was shown before, and is bit for bit that of
    an episode that ended there.
    """

    @torch.inference_mode()
    def __init__(self, model: SequentialModel, bag: Bag, trajectory: Trajectory) -> None:
        if trajectory.patches != len(bag):
            raise ValueError(
                f"the looks are of {trajectory.patches} patches, the bag has {len(bag)}: "
                "they are of another slide"
            )
        self._model = model
        self._trajectory = trajectory
        self._episode = model.begin(bag)
        self._coarse = self._episode.state.clone()  # (N, D)
        self._actor_start = self._episode.actor().clone()  # (N,)
        self._moved: list[Tensor] = []  # (n, D) of each look
        self._actor_after: list[Tensor] = []  # (n + 1,) of each, its own patch last

    @property
    def steps(self) -> int:
        """Return T, how many looks there are to replay."""
        return len(self._trajectory.looks)

    @torch.inference_mode()
    def reach(self, step: int) -> Work[None]:
        """Do looks over again, up to `step` of them, so that steps until there are shown at once.

        Yields how many of how many are done, before each that was not done before; it may be
        closed at any. Asking for a step does the same without telling.
        """
        for look in self._trajectory.looks[len(self._moved) : step]:
            yield Progress(len(self._moved), step)
            self._episode.repeat(look)
            self._moved.append(self._episode.state[look.updated])
            self._actor_after.append(self._episode.actor()[self._episode.changed])

    @torch.inference_mode()
    def policy(self, step: int) -> Explanation:
        """Return the policy's probabilities for look `step`, counted from 1.

        Raises
        ------
        ValueError
            If there is no such look.
        """
        if not 1 <= step <= self.steps:
            raise ValueError(f"step {step} is none of the {self.steps} looks")
        actor = self._actor(step - 1)
        actor[self._trajectory.order[: step - 1]] = -torch.inf
        return policy_map(actor.log_softmax(dim=0), step)

    @torch.inference_mode()
    def maps(self, step: int) -> tuple[Explanation, ...]:
        """Return the model's maps after `step` looks; 0 is before the first.

        Raises
        ------
        ValueError
            If there are fewer looks.
        """
        if not 0 <= step <= self.steps:
            raise ValueError(f"step {step} must be from 0 to the {self.steps} looks there are")
        looks = replace(self._trajectory, looks=self._trajectory.looks[:step])
        return self._model.outcome_of(self._state(step), self._actor(step), looks).explanations

    def _state(self, step: int) -> Tensor:
        """Return the (N, D) state after `step` looks, a new tensor."""
        finish(self.reach(step))
        fine = [look.fine for look in self._trajectory.looks[:step]]
        return self._laid(self._coarse, self._moved[:step], fine)

    def _actor(self, step: int) -> Tensor:
        """Return the actor's (N,) logits after `step` looks, a new tensor."""
        finish(self.reach(step))
        after = self._actor_after[:step]
        return self._laid(self._actor_start, [a[:-1] for a in after], [a[-1] for a in after])

    def _laid(self, start: Tensor, moved: list[Tensor], looked: list[Tensor]) -> Tensor:
        """Return the rows that updates, then looks, have put in the place of those at first."""
        rows, looks = start.clone(), self._trajectory.looks[: len(moved)]
        if looks:
            rows[torch.cat([look.updated for look in looks])] = torch.cat(moved)
            rows[self._trajectory.order[: len(looks)]] = torch.stack(looked)
        return rows
