"""Concentration: on how much of a slide attention lies, and how far maps agree on where.

These are facts of maps, not marks: attention to few patches is neither good nor bad.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import ExplanationKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.models.base import Explanation


@dataclass(frozen=True)
class Concentration:
    """On how many of its units attention lies.

    Attributes
    ----------
    entropy
        H = -Σ aᵢ ln aᵢ, in nats.
    effective
        exp(H): so many units with equal attention have this entropy; 1 to `units`.
    units
        Patches, or regions of a map by region, that have attention or might have had it.
    """

    entropy: float
    effective: float
    units: int

    @property
    def share(self) -> float:
        """Return the effective share of the units; 1 if all have the same attention."""
        return self.effective / self.units


def concentration(explanation: Explanation) -> Concentration:
    """Return how concentrated attention is over its own units.

    A region counts as one unit, however many patches it has; a unit whose attention is NaN,
    which was not among what is attended to, does not count.

    Raises
    ------
    ValueError
        If the map is not of attention, or says nothing of any unit.
    """
    _check_attention([explanation])
    a = explanation.scores[~explanation.scores.isnan()].double()
    if len(a) == 0:
        raise ValueError(f'the map "{explanation.name}" says nothing of any unit')
    entropy = torch.special.entr(a / a.sum()).sum()
    return Concentration(entropy.item(), entropy.exp().item(), len(a))


def overlap(maps: Sequence[Explanation], share: float = 0.02) -> Tensor:
    """Return (M, M) float32, what each pair of maps has in common of their first patches.

    The Jaccard index of the first `share` of the patches of each, 1 being the same and 0
    none in common. Patches that tie with the last of the first all count, so that a region
    is taken whole.

    Raises
    ------
    ValueError
        If there is no map, they are of different slides, or the share is not in (0, 1].
    """
    _check_patches(maps)
    first = torch.stack([top(map_, share) for map_ in maps]).float()  # (M, N)
    both = first @ first.T
    count = first.sum(dim=1)
    return both / (count[:, None] + count - both).clamp_min(1)


def disagreement(maps: Sequence[Explanation]) -> Tensor:
    """Return (N,) standard deviations over maps of attention in times of uniform.

    Each map's attention is in times of what equal attention to its own units would be, so
    that maps by patch and by region compare. NaN where a map says nothing.

    Raises
    ------
    ValueError
        If there are fewer than two maps, one is not of attention, or they are of different
        slides.
    """
    if len(maps) < 2:
        raise ValueError(f"disagreement is between maps, two at least: here is {len(maps)}")
    _check_attention(maps)
    _check_patches(maps)
    return torch.stack([map_.times_uniform() for map_ in maps]).std(dim=0, correction=0)


def _check_attention(maps: Sequence[Explanation]) -> None:
    for map_ in maps:
        if map_.kind is not ExplanationKind.ATTENTION:
            raise ValueError(f'the map "{map_.name}" is of {map_.kind}, not of attention')


def _check_patches(maps: Sequence[Explanation]) -> None:
    patches = sorted({len(map_.per_patch()) for map_ in maps})
    if len(patches) != 1:
        raise ValueError(f"maps must be of the patches of one slide, not of {patches or 'none'}")


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
