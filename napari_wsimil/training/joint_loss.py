"""Joint loss: one that compares patients with each other, as Cox's does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import MILOutput
from napari_wsimil.training.cases import FollowUp
from napari_wsimil.training.survival_metrics import c_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.models.base import MILModel
    from napari_wsimil.training.cases import Case


def loss_of(
    model: MILModel, outputs: Sequence[MILOutput], group: Sequence[Case]
) -> dict[str, Tensor]:
    """Return the terms of the loss of one patient, or of several whose loss is joint.

    A joint loss is given the outputs stacked: logits (B, C), branch tensors with B as their
    first axis, targets (B, 2). Terms that are still one per patient are averaged.
    """
    device = outputs[0].logits.device
    if not group[0].joint:
        return model.loss(outputs[0], group[0].answer.to(device))
    stacked = MILOutput(
        logits=torch.stack([output.logits for output in outputs]),
        explanations=(),
        branches={
            name: torch.stack([output.branches[name] for output in outputs])
            for name in outputs[0].branches
        },
    )
    terms = model.loss(stacked, torch.stack([case.answer for case in group]).to(device))
    return {name: term.mean() for name, term in terms.items()}


def check_joint(train: Sequence[Case], validation: Sequence[Case], accumulate: int) -> None:
    """Raise ValueError if a joint loss has nobody to compare.

    That is with one patient a step, or if no two training or no two validation patients
    can be compared: it would always be 0.
    """
    if not train[0].joint:
        return
    if accumulate < 2:
        raise ValueError(
            "Cox's loss compares the patients of a step and is 0 for one alone: "
            f"accumulate must be at least 2, not {accumulate}"
        )
    for what, cases in (("training", train), ("validation", validation)):
        known = [case.target for case in cases if isinstance(case.target, FollowUp)]
        if known and math.isnan(c_index(known, torch.zeros(len(known)))):
            raise ValueError(
                f"no two {what} patients can be compared: none had the event before another's time"
            )
