"""Case: a patient with slides and a class, the unit of training and of metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.models.base import MILModel, MILOutput


@dataclass(frozen=True)
class Case:
    """One patient.

    Attributes
    ----------
    patient
        Identity of the patient; a list of cases has each only once.
    bags
        One per slide; any sequence, so that it may load a bag when asked for it.
    target
        The class, counted from 0.
    """

    patient: str
    bags: Sequence[Bag]
    target: int

    def __post_init__(self) -> None:
        if len(self.bags) == 0:
            raise ValueError(f'patient "{self.patient}" has no slide')


def check_cases(cases: Iterable[Case], classes: int) -> None:
    """Raise ValueError if a patient comes twice or a class is none of 0 … classes - 1."""
    seen = set()
    for case in cases:
        if case.patient in seen:
            raise ValueError(
                f'patient "{case.patient}" comes twice among these cases: '
                "put all slides of a patient in one case, and each case in one set"
            )
        if not 0 <= case.target < classes:
            raise ValueError(
                f'patient "{case.patient}" is of class {case.target}, '
                f"this model knows 0 to {classes - 1}"
            )
        seen.add(case.patient)


def forward(model: MILModel, bags: Iterable[Bag]) -> MILOutput:
    """Return the output of a patient's slides, pooled."""
    return model.pool([model(bag) for bag in bags])


def draw_patches(bag: Bag, share: float, most: int) -> Bag:
    """Return a random `share` of the patches, at least one and at most `most`, in order.

    The draw is of torch's random state.
    """
    n = len(bag)
    count = min(max(1, round(n * share)), most)
    if count >= n:
        return bag
    index = torch.randperm(n)[:count].sort().values
    return take_patches(bag, index)


def take_patches(bag: Bag, index: torch.Tensor) -> Bag:
    """Return the bag of the patches in `index` ((n,) int64), places and all."""
    grid, finer = bag.grid, bag.finer
    if grid is not None:
        grid = replace(grid, coords=grid.coords[index.numpy()])
    if isinstance(finer, torch.Tensor):
        finer = finer[index]
    elif finer is not None:
        whole = finer

        def finer(patch: int) -> torch.Tensor:
            return whole(int(index[patch]))

    return replace(bag, features=bag.features[index], grid=grid, finer=finer)
