"""Cases in training: checks, patch sampling and loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from napari_wsimil.features.bag import take_patches
from napari_wsimil.features.case import Case, FollowUp
from napari_wsimil.models.base import MILOutput
from napari_wsimil.training.survival_metrics import c_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel


def check_cases(cases: Iterable[Case], classes: int) -> None:
    """Raise ValueError for repeated patients, invalid classes or time bins.

    Valid classes and bins are 0 to `classes` - 1.
    """
    seen = set()
    for case in cases:
        if case.patient in seen:
            raise ValueError(
                f'patient "{case.patient}" occurs twice in these cases: '
                "put all slides of a patient in one case, and each case in one set"
            )
        kind, number = _number(case.target)
        if not 0 <= number < classes:
            raise ValueError(
                f'patient "{case.patient}" has {kind} {number}, '
                f"but this model has 0 to {classes - 1}"
            )
        seen.add(case.patient)


def _number(target: int | FollowUp) -> tuple[str, int]:
    if isinstance(target, FollowUp):
        return "time bin", target.bin or 0
    return "class", target


def unit_of(cases: Iterable[Case | Patient]) -> str:
    """Return the unit of the cases, "patients" or "slides"."""
    return "slides" if any(case.of for case in cases) else "patients"


def forward(model: MILModel, bags: Iterable[Bag]) -> MILOutput:
    """Return the pooled output for a patient's slides."""
    return model.pool([model(bag) for bag in bags])


def draw_patches(bag: Bag, share: float, most: int) -> Bag:
    """Return a bag with a random `share` of its patches.

    At least one and at most `most` patches are kept, in order. The sample uses torch's global
    random state.
    """
    n = len(bag)
    count = min(max(1, round(n * share)), most)
    if count >= n:
        return bag
    index = torch.randperm(n)[:count].sort().values
    return take_patches(bag, index)


def loss_of(
    model: MILModel, outputs: Sequence[MILOutput], group: Sequence[Case]
) -> dict[str, Tensor]:
    """Return the loss terms of a group of cases.

    The group is one case, or several with a joint loss. A joint loss gets stacked outputs:
    logits (B, C), branch tensors with B as first axis, targets (B, 2). Terms with one value
    per patient are averaged.
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
    """Raise ValueError if a joint loss cannot compare patients.

    The loss would always be 0 with one patient per step, or if no two patients of the
    training or of the validation set are comparable.
    """
    if not train[0].joint:
        return
    if accumulate < 2:
        raise ValueError(
            "Cox's loss compares the patients of a step and is 0 for one alone: "
            f"accumulate must be at least 2, not {accumulate}"
        )
    for part, cases in (("training", train), ("validation", validation)):
        known = [case.target for case in cases if isinstance(case.target, FollowUp)]
        if known and math.isnan(c_index(known, torch.zeros(len(known)))):
            raise ValueError(
                f"no two {part} patients can be compared: none had the event before another's time"
            )
