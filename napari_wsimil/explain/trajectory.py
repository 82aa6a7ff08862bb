"""Trajectory of a sequential model: steps, sub-patches, costs and maps.

A sequential model such as SASHA reads a slide in steps. In each step its policy selects a patch
and reads the patch at high resolution, as k sub-patches; this updates the state of similar
patches. The trajectory is the list of these steps. This module computes their display: the
position and attention of sub-patches, the order of patches, the cost in encoder calls, and the
maps after any step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.replay import Replay
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.protocols import SequentialModel
from napari_wsimil.models.trajectory import Trajectory
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel


def sub_patches(
    grid: PatchGrid, trajectory: Trajectory, step: int, side: int | None = None
) -> tuple[PatchGrid, NDArray[np.float32]]:
    """Return grid and attention of the sub-patches read.

    Parameters
    ----------
    grid
        Grid of the patches.
    trajectory
        Episode on these patches.
    step
        Number of steps to include, from the first.
    side
        Sub-patches along a patch's side; √k if None.

    Returns
    -------
    PatchGrid
        Of step · k sub-patches, step by step, column by column as in `bag.finer`. If a
        patch is not a whole number of sub-patches wide, their corners and side are rounded down
        to whole level-0 pixels: a pixel between two may belong to neither.
    NDArray[np.float32]
        (step · k,) attention within the patch times k; 1 is equal attention.

    Raises
    ------
    ValueError
        If there are fewer steps, the sub-patches form no square or are smaller than a pixel, or
        the trajectory is of another slide.
    """
    _check(trajectory, step)
    if trajectory.patches != len(grid):
        raise ValueError(f"the trajectory has {trajectory.patches} patches, the grid {len(grid)}")
    side = _side(trajectory, side)
    size = grid.patch_size // side
    if size < 1:
        raise ValueError(
            f"patches of {grid.patch_size} level-0 pixels have no {side} parts per side"
        )
    along = np.arange(side) * grid.patch_size // side
    x, y = (part.ravel() for part in np.meshgrid(along, along, indexing="ij"))
    corners = grid.coords[_order(trajectory, step)][:, None] + np.stack([x, y], axis=1)
    level0 = None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size
    parts = PatchGrid(
        coords=corners.reshape(-1, 2),
        patch_size=size,
        stride=size,
        pixels=grid.pixels,
        mpp=None if level0 is None else level0 * size / grid.pixels,
        slide_size=grid.slide_size,
    )
    return parts, _times_uniform(trajectory, step)


def order(trajectory: Trajectory, step: int) -> NDArray[np.float32]:
    """Return each patch's step as (N,); NaN if not read.

    Steps are counted from 1; only the first `step` steps are included.
    """
    _check(trajectory, step)
    steps = np.full(trajectory.patches, np.nan, dtype=np.float32)
    steps[_order(trajectory, step)] = np.arange(1, step + 1)
    return steps


@dataclass(frozen=True, eq=False)
class Costs:
    """Encoder calls of an episode.

    Attributes
    ----------
    calls
        (step + 1,) int64 images processed by the encoder, before the first step and after each:
        every patch at low resolution, then k sub-patches per step.
    full
        Images for all patches at high resolution, which needs no low-resolution pass; 0 if there
        is no step, so k is unknown.
    """

    calls: NDArray[np.int64]
    full: int

    @property
    def share(self) -> NDArray[np.float64]:
        """(step + 1,) calls divided by `full`; NaN if unknown."""
        return self.calls / self.full if self.full else np.full(len(self.calls), np.nan)


def costs(trajectory: Trajectory, step: int | None = None) -> Costs:
    """Return the encoder calls after each of the first steps.

    All steps if `step` is None.

    Raises
    ------
    ValueError
        If there are fewer steps.
    """
    step = len(trajectory.looks) if step is None else step
    _check(trajectory, step)
    fine = [len(look.attention) for look in trajectory.looks[:step]]
    calls = trajectory.patches + np.concatenate([[0], np.cumsum(fine, dtype=np.int64)])
    return Costs(calls.astype(np.int64), trajectory.full_calls)


def _check(trajectory: Trajectory, step: int) -> None:
    if not 0 <= step <= len(trajectory.looks):
        raise ValueError(
            f"step {step} must be from 0 to {len(trajectory.looks)}, the last of this episode"
        )


def _side(trajectory: Trajectory, side: int | None) -> int:
    """Return the sub-patches along a side; 1 if unknown."""
    if not trajectory.looks:
        return side or 1
    k = len(trajectory.looks[0].attention)
    size = math.isqrt(k) if side is None else side
    if size < 1 or size**2 != k:
        shape = "the square of a whole number" if side is None else f"{side} by {side}"
        raise ValueError(f"the {k} sub-patches of a patch are not {shape}: positions are unknown")
    return size


def _order(trajectory: Trajectory, step: int) -> NDArray[np.int64]:
    patches: NDArray[np.int64] = trajectory.order[:step].numpy()
    return patches


def _times_uniform(trajectory: Trajectory, step: int) -> NDArray[np.float32]:
    looks = trajectory.looks[:step]
    parts = [look.attention.cpu().numpy() * len(look.attention) for look in looks]
    return np.concatenate([np.empty(0), *parts]).astype(np.float32)


#: Kinds of the model's maps that are shown per step; other kinds describe the whole episode.
_SHOWN = (ExplanationKind.ATTENTION, ExplanationKind.EVIDENCE)


def trajectory_of(prediction: Prediction | None) -> Trajectory | None:
    """Return a prediction's trajectory; None if it has no steps."""
    trajectory = None if prediction is None else prediction.trajectory
    return trajectory if isinstance(trajectory, Trajectory) and trajectory.looks else None


class Looks:
    """Maps after any step of a prediction's trajectory.

    Parameters
    ----------
    model, prediction
        The sequential model, and its prediction.
    """

    def __init__(self, model: MILModel, prediction: Prediction) -> None:
        self._model, self.prediction = model, prediction
        self._replay: Replay | None = None

    def maps(self, step: int) -> tuple[Explanation, ...]:
        """Return the maps after a number of steps.

        These are order, policy, attention, evidence and updated patches. Names do not change with
        the step, so that the selected map stays selected.
        """
        trajectory = trajectory_of(self.prediction)
        if trajectory is None or not isinstance(self._model, SequentialModel):
            return ()
        if self._replay is None:
            self._replay = Replay(self._model, self.prediction.bag, trajectory)
        return (
            _read_order(trajectory, step),
            *self._policy(trajectory, step),
            *(
                replace(one, name=_partial_name(one))
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


def _partial_name(explanation: Explanation) -> str:
    name, colon, number = explanation.name.partition(":")
    return f"{name} so far{colon}{number}"


def _read_order(trajectory: Trajectory, step: int) -> Explanation:
    scores = torch.from_numpy(order(trajectory, step))
    return Explanation("order so far", ExplanationKind.ORDER, scores, absent="not examined")


def _updated(trajectory: Trajectory, step: int) -> Explanation:
    """Return the patches updated by the last step, for outlines."""
    chosen = torch.zeros(trajectory.patches)
    if step:
        chosen[trajectory.looks[step - 1].updated] = 1.0
    return Explanation("updated by this look", ExplanationKind.PROBABILITY, chosen, outlined=True)


def after_looks(model: MILModel, prediction: Prediction, step: int) -> Prediction:
    """Return the partial prediction after a number of steps.

    It has the maps, probabilities and trajectory up to that step. Its logits are the logarithms
    of the probabilities, and it has no scalars.

    Raises
    ------
    ValueError
        If the model is not sequential, or made fewer steps.
    """
    trajectory = trajectory_of(prediction)
    if trajectory is None:
        raise ValueError(
            f"{prediction.card.model} is not a sequential model: give no number of steps"
        )
    maps = Looks(model, prediction).maps(step)
    probabilities = trajectory.probabilities[step]
    return replace(
        prediction,
        explanations=maps,
        probabilities=probabilities,
        logits=probabilities.log(),
        scalars={},
        trajectory=replace(trajectory, looks=trajectory.looks[:step]),
    )


def cost_words(trajectory: Trajectory, step: int) -> str:
    """Return a sentence on encoder calls up to a step."""
    cost = costs(trajectory, step)
    fine = int(cost.calls[-1]) - trajectory.patches
    share = f": {cost.share[-1]:.0%} of the {cost.full:,} for all patches at high resolution"
    return (
        f"Step {step} of {len(trajectory.looks)}. The encoder processed {trajectory.patches:,} "
        f"patches and {fine:,} sub-patches{share if cost.full else ''}."
    )


def look_words(trajectory: Trajectory, step: int) -> str:
    """Return a sentence on the last of some steps."""
    if not step:
        return "Before the first step."
    look = trajectory.looks[step - 1]
    probability = f"{math.exp(look.log_probability):.2g}"
    return (
        f"Patch {look.patch + 1}, selected with probability {probability} (policy entropy "
        f"{look.entropy:.2f} nats); {len(look.updated)} similar patches updated."
    )
