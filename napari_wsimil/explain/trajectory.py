"""Trajectory of looks as it is drawn: the sub-patches read, the order, what it cost."""

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
    """Return where the sub-patches of the patches looked at lie, and the attention they got.

    Parameters
    ----------
    grid
        Of the patches.
    trajectory
        Of an episode on them.
    step
        How many looks, the first ones, are drawn.
    side
        Sub-patches along a patch's side; √k if None.

    Returns
    -------
    PatchGrid
        Of step · k sub-patches, look by look, column by column as in `bags.finer`. Where a
        patch is not whole sub-patches wide, their corners are rounded down to whole level-0
        pixels and their side is too: a pixel between two may be of neither.
    NDArray[np.float32]
        (step · k,) attention within the patch times k, 1 being equal attention.

    Raises
    ------
    ValueError
        If there are not so many looks, sub-patches are no square or smaller than a pixel, or
        the looks are of another slide.
    """
    _check(trajectory, step)
    if trajectory.patches != len(grid):
        raise ValueError(f"the looks are of {trajectory.patches} patches, the grid has {len(grid)}")
    side = _side(trajectory, side)
    size = grid.patch_size // side
    if size < 1:
        raise ValueError(f"patches of {grid.patch_size} level-0 pixels have no {side} parts a side")
    along = np.arange(side) * grid.patch_size // side
    x, y = (part.ravel() for part in np.meshgrid(along, along, indexing="ij"))
    corners = grid.coords[_order(trajectory, step)][:, None] + np.stack([x, y], axis=1)
    level0 = None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size
    found = PatchGrid(
        coords=corners.reshape(-1, 2),
        patch_size=size,
        stride=size,
        pixels=grid.pixels,
        mpp=None if level0 is None else level0 * size / grid.pixels,
        slide_size=grid.slide_size,
    )
    return found, _times_uniform(trajectory, step)


def order(trajectory: Trajectory, step: int) -> NDArray[np.float32]:
    """Return (N,) which of the first `step` looks each patch had, from 1; NaN where none."""
    _check(trajectory, step)
    found = np.full(trajectory.patches, np.nan, dtype=np.float32)
    found[_order(trajectory, step)] = np.arange(1, step + 1)
    return found


@dataclass(frozen=True, eq=False)
class Costs:
    """What looks have cost.

    Attributes
    ----------
    calls
        (step + 1,) int64 images the encoder has seen, before the first look and after each:
        every patch coarsely, then k sub-patches a look.
    full
        Images of reading all patches finely, which needs no coarse pass; 0 if no look says
        how many sub-patches a patch has.
    """

    calls: NDArray[np.int64]
    full: int

    @property
    def share(self) -> NDArray[np.float64]:
        """Return (step + 1,) calls in times of a full fine reading; NaN if that is unknown."""
        return self.calls / self.full if self.full else np.full(len(self.calls), np.nan)


def costs(trajectory: Trajectory, step: int | None = None) -> Costs:
    """Return what the first `step` looks have cost at every step; all looks if None.

    Raises
    ------
    ValueError
        If there are not so many looks.
    """
    step = len(trajectory.looks) if step is None else step
    _check(trajectory, step)
    fine = [len(look.attention) for look in trajectory.looks[:step]]
    calls = trajectory.patches + np.concatenate([[0], np.cumsum(fine, dtype=np.int64)])
    return Costs(calls.astype(np.int64), trajectory.full_calls)


def _check(trajectory: Trajectory, step: int) -> None:
    if not 0 <= step <= len(trajectory.looks):
        raise ValueError(f"step {step} must be from 0 to the {len(trajectory.looks)} looks made")


def _side(trajectory: Trajectory, side: int | None) -> int:
    """Return how many sub-patches a patch has along its side; 1 if no look tells."""
    if not trajectory.looks:
        return side or 1
    k = len(trajectory.looks[0].attention)
    found = math.isqrt(k) if side is None else side
    if found < 1 or found**2 != k:
        wanted = "the square of a whole number" if side is None else f"{side} by {side}"
        raise ValueError(f"the {k} sub-patches of a patch are not {wanted}: where they lie is open")
    return found


def _order(trajectory: Trajectory, step: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = trajectory.order[:step].numpy()
    return found


def _times_uniform(trajectory: Trajectory, step: int) -> NDArray[np.float32]:
    looks = trajectory.looks[:step]
    parts = [look.attention.cpu().numpy() * len(look.attention) for look in looks]
    return np.concatenate([np.empty(0), *parts]).astype(np.float32)


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
        if trajectory is None or not isinstance(self._model, SequentialModel):
            return ()
        if self._replay is None:
            self._replay = Replay(self._model, self.prediction.bag, trajectory)
        return (
            _read_order(trajectory, step),
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


def _read_order(trajectory: Trajectory, step: int) -> Explanation:
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
