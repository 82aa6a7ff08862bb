"""Statistics of maps: concentration, overlap, disagreement and ranks.

They describe maps and do not grade them: attention to few patches is neither good nor bad.
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
    """Number of units that share most of the attention.

    For example, 100 patches of which 10 have equal attention and the others none have an
    entropy of ln 10, and an effective number of 10.

    Attributes
    ----------
    entropy
        H = -Σ aᵢ ln aᵢ, in nats.
    effective
        exp(H): the number of units with equal attention that has this entropy; 1 to `units`.
    units
        Patches, or regions of a region map, that have attention or could have had it.
    """

    entropy: float
    effective: float
    units: int

    @property
    def share(self) -> float:
        """Effective share of the units; 1 for equal attention."""
        return self.effective / self.units


def concentration(explanation: Explanation) -> Concentration:
    """Return the concentration of attention over a map's own units.

    A region of any size counts as one unit. A unit with NaN was not among
    those attended to and does not count.

    Raises
    ------
    ValueError
        If the map is not attention, or has no value.
    """
    _check_attention([explanation])
    a = explanation.scores[~explanation.scores.isnan()].double()
    if len(a) == 0:
        raise ValueError(f'the map "{explanation.name}" has no value for any unit')
    entropy = torch.special.entr(a / a.sum()).sum()
    return Concentration(entropy.item(), entropy.exp().item(), len(a))


def overlap(maps: Sequence[Explanation], share: float = 0.02) -> Tensor:
    """Return (M, M) float32: overlap of top patches between maps.

    It is the Jaccard index of the first `share` of the patches of each map: 1 for the same
    patches, 0 for none in common. Patches that tie with the last of the top patches all count, so
    that a region is counted whole.

    Raises
    ------
    ValueError
        If there is no map, the maps are of different slides, or the share is not in (0, 1].
    """
    _check_patches(maps)
    first = torch.stack([top(map_, share) for map_ in maps]).float()  # (M, N)
    both = first @ first.T
    count = first.sum(dim=1)
    return both / (count[:, None] + count - both).clamp_min(1)


def disagreement(maps: Sequence[Explanation]) -> Tensor:
    """Return (N,) standard deviations over attention maps, in × uniform.

    Each map's attention is divided by equal attention to its own units, so that patch maps and
    region maps can be compared. NaN where a map has no value.

    Raises
    ------
    ValueError
        If there are fewer than two maps, one is not attention, or they are of different slides.
    """
    if len(maps) < 2:
        raise ValueError(f"disagreement needs at least two maps, not {len(maps)}")
    _check_attention(maps)
    _check_patches(maps)
    return torch.stack([map_.times_uniform() for map_ in maps]).std(dim=0, correction=0)


def _check_attention(maps: Sequence[Explanation]) -> None:
    for map_ in maps:
        if map_.kind is not ExplanationKind.ATTENTION:
            raise ValueError(f'the map "{map_.name}" is of kind {map_.kind}, not attention')


def _check_patches(maps: Sequence[Explanation]) -> None:
    patches = sorted({len(map_.per_patch()) for map_ in maps})
    if len(patches) != 1:
        raise ValueError(f"maps must be of the patches of one slide, not of {patches or 'none'}")


def ranks(explanation: Explanation) -> Tensor:
    """Return (N,) numbers for ranking, highest first; -inf for NaN.

    They are the scores; for an order of steps the first step has the highest number.
    """
    scores = explanation.per_patch()
    numbers = -scores if explanation.kind is ExplanationKind.ORDER else scores
    return numbers.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def place_of(explanation: Explanation, patch: int) -> int:
    """Return a patch's rank from 1; ties share the best."""
    numbers = ranks(explanation)
    return 1 + int((numbers > numbers[patch]).sum())


def ranked(explanation: Explanation, random: torch.Generator) -> Tensor:
    """Return (N,) patches in descending order, NaN last.

    Ties, such as the patches of a region, come in an order drawn from `random`: the order of the
    bag would be a path across the slide.

    Raises
    ------
    ValueError
        If the map has no value for any patch.
    """
    numbers = ranks(explanation)
    if explanation.per_patch().isnan().all():
        raise ValueError(f'the map "{explanation.name}" has no value for any patch')
    order = torch.randperm(len(numbers), generator=random)
    return order[numbers[order].argsort(descending=True, stable=True)]


def top(explanation: Explanation, share: float) -> Tensor:
    """Return (N,) bool: the top `share`, at least one.

    All patches that tie with the last of them count; patches without a value never do.

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
