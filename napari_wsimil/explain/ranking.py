"""Ranking: the patches of a map, those it points at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import ExplanationKind

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.models.base import Explanation


def ranks(explanation: Explanation) -> Tensor:
    """Return (N,) numbers that are higher the earlier a patch comes; -inf where the map has NaN.

    They are the scores, for an order of looks what is looked at first being the highest.
    """
    scores = explanation.per_patch()
    earlier = -scores if explanation.kind is ExplanationKind.ORDER else scores
    return earlier.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def place_of(explanation: Explanation, patch: int) -> int:
    """Return at which place a patch comes, 1 being the first; those that tie share the best."""
    numbers = ranks(explanation)
    return 1 + int((numbers > numbers[patch]).sum())


def ranked(explanation: Explanation, random: torch.Generator) -> Tensor:
    """Return the (N,) patches from the first to the last; what is told nothing of comes last.

    Patches that a map does not tell apart, such as those of a region, come in an order drawn
    at `random`: that of the bag would be a way across the slide.

    Raises
    ------
    ValueError
        If the map says nothing of any patch.
    """
    numbers = ranks(explanation)
    if explanation.per_patch().isnan().all():
        raise ValueError(f'the map "{explanation.name}" says nothing of any patch')
    drawn = torch.randperm(len(numbers), generator=random)
    return drawn[numbers[drawn].argsort(descending=True, stable=True)]


def top(explanation: Explanation, share: float) -> Tensor:
    """Return (N,) bool, the first `share` of the patches, at least one.

    Those that tie with the last of them all count; those the map says nothing of never do.

    Raises
    ------
    ValueError
        If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}")
    numbers = ranks(explanation)
    count = max(1, round(share * len(numbers)))
    return (numbers >= numbers.topk(count).values[-1]) & ~explanation.per_patch().isnan()
