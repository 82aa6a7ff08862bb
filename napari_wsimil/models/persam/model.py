"""PersAM as published (Hanada et al. 2022, arXiv 2206.03003)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import nn

from napari_wsimil.models.base import MILOutput, Need
from napari_wsimil.models.persam.common import Personalized, personal_maps, phi_scalars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.slides.patch_grid import PatchGrid

BAG = 100  # patches of a bag, as in the paper
TOGETHER = 40  # bags encoded at once, so that no temporary grows with the slide


class PersAM(Personalized):
    """PersAM as published, in bags of 100 patches.

    Hanada et al. 2022, with a post-norm encoder and mean probabilities. A slide is partitioned
    into bags by a seeded function of its coordinates, so that the same patches share a bag
    before and after an edit of the record. Each bag is encoded with its own copy of class and
    record tokens; the slide's probabilities are the mean of its bags', and logits their
    logarithm. The last bag is filled up with patches of the first, which keep the map values of
    the first; a slide of fewer than 100 patches is one bag.

    A patch's attention depends on the 99 others in its bag: with `passes` above 1 maps and
    probabilities are averages over as many partitions. "attention" is the a'_l of the maps as a
    share of the slide's sum; each bag pools by its own shares. See `Personalized` for the
    equations and the decisions. In training a sample of 100 patches makes one bag.

    Parameters
    ----------
    feature_dim, classes, groups, width, feedforward, scale, values
        As for `Personalized`; values are "encoded", as published.
    heads, depth, dropout
        Of the encoder; not given in the paper.
    passes
        Partitions that maps and probabilities are averaged over.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.RECORD, Need.PLACES})

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        groups: str = "18,10",
        width: int = 64,
        feedforward: int = 256,
        heads: int = 8,
        depth: int = 2,
        dropout: float = 0.1,
        scale: float = 0.0,
        values: str = "encoded",
        passes: int = 1,
    ) -> None:
        super().__init__(
            feature_dim=feature_dim,
            classes=classes,
            groups=groups,
            width=width,
            feedforward=feedforward,
            scale=scale,
            values=values,
        )
        if min(heads, depth, passes) < 1 or width % heads or not 0 <= dropout < 1:
            raise ValueError(
                f"heads {heads} must divide width {width}, depth {depth} and passes {passes} "
                f"be ≥ 1, dropout {dropout} in [0, 1)"
            )
        self.heads = heads
        self.depth = depth
        self.dropout = dropout
        self.passes = passes
        self.encoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, feedforward, dropout, activation="gelu", batch_first=True
                )
                for _ in range(depth)
            )
        )

    def answer(self, x: Tensor, bag: Bag, partition: int = 0) -> MILOutput:
        """Return the output for patch tokens, bag by bag.

        The (N, R) tokens `x` are from `embed`. Partition 0 is that of `forward`; the others
        share no seed with it.
        """
        assert bag.grid is not None  # see `check`
        seeds = range(partition * self.passes, (partition + 1) * self.passes)
        order = torch.stack([shuffled(bag.grid, seed) for seed in seeds])  # (P, N)
        order = order.to(x.device)
        members = torch.cat([in_bags(one) for one in order])  # (B, L)
        r = self.record_tokens(bag)  # (M, R)
        h = torch.cat([self._encode(x[part], r) for part in members.split(TOGETHER)])
        classes, record, patches = h.split([self.classes, len(r), members.shape[1]], dim=1)
        contents = patches if self.values == "encoded" else x[members]  # (B, L, R)
        attention, z = self.aggregator(classes, record, patches, contents)
        p = self.head(z).log_softmax(dim=-1)  # (B, C)
        return MILOutput(
            logits=p.logsumexp(dim=0) - math.log(len(p)),
            explanations=personal_maps(
                _per_patch(attention.classwise, order),
                _per_patch(attention.psi, order),
                _per_patch(attention.explanatory, order),
            ),
            branches={"best": attention.scores.amax(dim=(0, 1))},
            scalars=phi_scalars(attention.phi.mean(dim=0)),
        )

    def repartitioned(self, bag: Bag, seed: int) -> MILOutput:
        """Return the output of another partition into bags.

        Seeds count from 1.
        """
        self.check(bag)
        return self.answer(self.embed(bag), bag, seed)

    def pool(self, outputs: Sequence[MILOutput]) -> MILOutput:
        """Return a patient's output, the mean probability of the slides.

        The same mean as over bags.
        """
        pooled = super().pool(outputs)
        p = torch.stack([output.logits for output in outputs])  # (S, C) log-probabilities
        return replace(pooled, logits=p.logsumexp(dim=0) - math.log(len(p)))

    def _encode(self, patches: Tensor, record: Tensor) -> Tensor:
        """Return the encoded tokens of bags.

        They are (B, C + M + L, R); `patches` are (B, L, R), `record` is (M, R).
        """
        shared = torch.cat([self.tokens.classes, record])
        h: Tensor = self.encoder(torch.cat([shared.expand(len(patches), -1, -1), patches], dim=1))
        return h


def shuffled(grid: PatchGrid, seed: int) -> Tensor:
    """Return the (N,) patches in a seeded order by position."""
    by_place = np.lexsort(grid.coords.T)
    shuffle = torch.randperm(len(grid), generator=torch.Generator().manual_seed(seed))
    return torch.from_numpy(by_place)[shuffle]


def in_bags(order: Tensor) -> Tensor:
    """Return the patches of each bag.

    They are (B, L), L = min(`BAG`, N). The last bag is filled up with patches of the first.
    """
    size = min(BAG, len(order))
    return torch.cat([order, order[: -len(order) % size]]).view(-1, size)


def _per_patch(values: Tensor, order: Tensor) -> Tensor:
    """Return values per patch (N, ...), averaged over passes.

    `values` (B, L, ...) are those of the bags of all passes.
    """
    passes, patches = order.shape
    each = values.detach().unflatten(0, (passes, -1)).flatten(1, 2)[:, :patches]  # (P, N, ...)
    where = order.argsort(dim=1)
    return torch.stack([one[at] for one, at in zip(each, where, strict=True)]).mean(dim=0)
