"""Looks: the maps and the words of any step of a trajectory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.replay import Replay
from napari_wsimil.explain.trajectory import costs, order
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.sasha.protocol import Explorer
from napari_wsimil.models.sasha.trajectory import Trajectory

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel

#: Of the maps of a step, those of the model that are shown; the others are of the whole.
_SHOWN = (ExplanationKind.ATTENTION, ExplanationKind.EVIDENCE)


def trajectory_of(prediction: Prediction | None) -> Trajectory | None:
    """Return the looks of a prediction, None where the model does not look step by step."""
    found = None if prediction is None else prediction.trajectory
    return found if isinstance(found, Trajectory) and found.looks else None


class Looks:
    """The maps of any step of a prediction's trajectory.

    Parameters
    ----------
    model, prediction
        The model that looked, and what it said.
    """

    def __init__(self, model: MILModel, prediction: Prediction) -> None:
        self._model, self.prediction = model, prediction
        self._replay: Replay | None = None

    def maps(self, step: int) -> tuple[Explanation, ...]:
        """Return the maps after `step` looks: order, policy, attention, evidence, updated.

        Names do not change with the step, so that the map that is looked at stays.
        """
        trajectory = trajectory_of(self.prediction)
        if trajectory is None or not isinstance(self._model, Explorer):
            return ()
        if self._replay is None:
            self._replay = Replay(self._model, self.prediction.bag, trajectory)
        return (
            _order(trajectory, step),
            *self._policy(trajectory, step),
            *(
                replace(one, name=_so_far(one))
                for one in self._replay.maps(step)
                if one.kind in _SHOWN and one.family != "branch"
            ),
            _updated(trajectory, step),
        )

    def _policy(self, trajectory: Trajectory, step: int) -> tuple[Explanation, ...]:
        if self._replay is None or step >= len(trajectory.looks):
            return ()
        policy = self._replay.policy(step + 1)
        return (replace(policy, name="policy of the next look"),)


def _so_far(explanation: Explanation) -> str:
    name, colon, number = explanation.name.partition(":")
    return f"{name} so far{colon}{number}"


def _order(trajectory: Trajectory, step: int) -> Explanation:
    scores = torch.from_numpy(order(trajectory, step))
    return Explanation("order so far", ExplanationKind.ORDER, scores, absent="not examined")


def _updated(trajectory: Trajectory, step: int) -> Explanation:
    """Return which patches the last look updated, for an outline."""
    chosen = torch.zeros(trajectory.patches)
    if step:
        chosen[trajectory.looks[step - 1].updated] = 1.0
    return Explanation("updated by this look", ExplanationKind.PROBABILITY, chosen, outlined=True)


def after_looks(model: MILModel, prediction: Prediction, step: int) -> Prediction:
    """Return what the model said after its first `step` looks: maps, probabilities, looks.

    Its logits are the logarithms of the probabilities, and it has no scalars.

    Raises
    ------
    ValueError
        If the model does not look step by step, or made fewer looks.
    """
    trajectory = trajectory_of(prediction)
    if trajectory is None:
        raise ValueError(
            f"{prediction.card.model} does not look step by step: ask without a number of looks"
        )
    maps = Looks(model, prediction).maps(step)
    chances = trajectory.probabilities[step]
    return replace(
        prediction,
        explanations=maps,
        probabilities=chances,
        logits=chances.log(),
        scalars={},
        trajectory=replace(trajectory, looks=trajectory.looks[:step]),
    )


def cost_words(trajectory: Trajectory, step: int) -> str:
    """Return what looks have cost so far, every call of the encoder counted."""
    found = costs(trajectory, step)
    fine = int(found.calls[-1]) - trajectory.patches
    whole = f" = {found.share[-1]:.0%} of the {found.full:,} of reading all finely"
    return (
        f"Look {step} of {len(trajectory.looks)}: the encoder saw {trajectory.patches:,} patches "
        f"and {fine:,} sub-patches{whole if found.full else ''}."
    )


def look_words(trajectory: Trajectory, step: int) -> str:
    """Return what the last of some looks was and did."""
    if not step:
        return "Before the first look."
    look = trajectory.looks[step - 1]
    chance = f"{math.exp(look.log_probability):.2g}"
    return (
        f"Patch {look.patch + 1}, to which the policy gave {chance} "
        f"(entropy {look.entropy:.2f} nats); {len(look.updated)} patches like it updated."
    )
