"""Querent: attention to selected regions (arXiv 2501.18984, ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from napari_wsimil.models.base import (
    Explanation,
    ExplanationKind,
    MILModel,
    MILOutput,
    Need,
    check_query,
)
from napari_wsimil.models.layers.chunked import ROWS, by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead
from napari_wsimil.models.layers.region_attention import attend, choose, mean_scores
from napari_wsimil.models.layers.region_received import received
from napari_wsimil.models.layers.regions import SCORERS, partition, region_side
from napari_wsimil.models.layers.result_cache import Recall

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.layers.regions import Regions


@dataclass(frozen=True, eq=False)
class Asked:
    """Intermediate results of a slide, shared by all queries.

    Attributes
    ----------
    regions
        The partition.
    bounds
        (M, D) minimum and (M, D) maximum standardized features of the regions.
    keys
        (N, heads, d), sorted by region.
    """

    regions: Regions
    bounds: tuple[Tensor, Tensor]
    keys: Tensor


class Querent(MILModel):
    """Self-attention of each patch to a few selected regions.

    The M regions of K places have metadata, the elementwise minimum and maximum of their
    standardized features x̂, each with its own projection into a space shared with the
    queries: m̂ᵢ⁻ = f₋(minⱼ x̂ᵢⱼ), m̂ᵢ⁺ = f₊(maxⱼ x̂ᵢⱼ), q̂ = f(x̂). A patch selects the T
    regions of the highest sᵢ = max(|q̂·m̂ᵢ⁻|, |q̂·m̂ᵢ⁺|) and computes exact attention to their
    patches alone:

    h = ReLU(W x̂ + b), h' = h + Wₒ softmax(QKᵀ/√d + s - sg(s)) V with Q, K, V of LN(h),
    h'' = h' + FFN(LN(h')), z = Σ aₙ h''ₙ with a as in ABMIL, logits = C z + c.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    heads
        Heads of the attention; they share the width and the selected regions.
    attention_dim
        L, the width of the pooling's V and U.
    feedforward
        Width of the FFN's hidden layer in units of H; 0 leaves the FFN out.
    regions
        "grid", squares of the lattice of patches, or "sequence", runs row by row.
    region_size
        K. For a grid a square number; 64 means squares of 8 by 8 places.
    top_regions
        T, at most; a slide of fewer regions is attended in full.
    metadata_dim
        Width of the space of q̂ and m̂.
    scorer
        "min-max"; "max" leaves m̂⁻ out; "random" selects by the coordinates, without learning.
        The latter two serve as baselines.

    Notes
    -----
    The paper does not define how regions are formed, K, the width and depth of the layer, and
    how the scorer learns: if the scores are used for a hard selection only, f, f₋ and f₊ get no
    gradient at all. Decided here: square regions, one layer, and the term s - sg(s), which is
    zero and has the gradient of the logits. A patch need not select its own region.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PLACES})
    survives: ClassVar[bool] = True

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 256,
        heads: int = 8,
        attention_dim: int = 128,
        feedforward: int = 4,
        regions: str = "grid",
        region_size: int = 64,
        top_regions: int = 5,
        metadata_dim: int = 128,
        scorer: str = "min-max",
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        if top_regions < 1 or metadata_dim < 1 or feedforward < 0:
            raise ValueError(
                f"top_regions {top_regions} and metadata_dim {metadata_dim} must be ≥ 1 "
                f"and feedforward {feedforward} ≥ 0"
            )
        if scorer not in SCORERS:
            raise ValueError(f"scorer must be one of {', '.join(SCORERS)}, not {scorer!r}")
        region_side(region_size, regions)
        self.width = width
        self.heads = heads
        self.attention_dim = attention_dim
        self.feedforward = feedforward
        self.regions = regions
        self.region_size = region_size
        self.top_regions = top_regions
        self.metadata_dim = metadata_dim
        self.scorer = scorer
        self.embedding = nn.Linear(feature_dim, width)
        self.metadata = SCORERS[scorer](feature_dim, metadata_dim)
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width, bias=False)
        self.projection = nn.Linear(width, width)
        self.ffn: nn.Module | None = _ffn(width, feedforward * width) if feedforward else None
        self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)
        self._cache: Recall[Asked] = Recall()

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, attention, the head's maps and region use.

        The head's maps refer to the patches after the layer. "chosen by" is the share of patches
        that selected a region. Patches are sorted by region inside, and restored to bag order at
        the end.
        """
        self.check(bag)
        regions = self._regions(bag)
        features, places = bag.features[regions.order], _places(bag, regions.order)
        metadata = self._metadata(features, places, self._bounds(features, regions))
        s, chosen = choose(*metadata, self._top(regions))
        h = by_rows(self._embed, features)  # (N, H)
        q, k, v = (by_rows(f, h) for f in (self._query, self._key, self._value))  # (N, heads, d)
        o = attend(q, k, v, regions.sizes, chosen, s).flatten(1)  # (N, H)
        both = zip(h.split(ROWS), o.split(ROWS), strict=True)
        h = regions.unsort(torch.cat([self._after(*part) for part in both]))  # (N, H)
        a = by_rows(self.attention, h)[:, 0].softmax(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(a @ h),
            explanations=(
                Explanation("attention", ExplanationKind.ATTENTION, a.detach()),
                *self.head.maps(h, a),
                _chosen_by("chosen by", chosen, regions),
            ),
            scalars={"regions": len(regions), "top regions": chosen.shape[1]},
        )

    @torch.no_grad()
    def explain(self, bag: Bag, query: Tensor | None = None) -> tuple[Explanation, ...]:
        """Return a query's maps, or `forward`'s maps without one.

        Intermediate results that do not depend on the query are cached until another slide is
        queried: of the order of N · H numbers.

        Parameters
        ----------
        query
            (Q,) int64, the indices of one patch or of those in an area.

        Returns
        -------
        "attention of the query"
            (N,), mean over its patches and the heads; NaN outside of the selected regions.
        "attention by region"
            (M,), its sums over the selected regions: the actual attention of each.
        "region score"
            (M,), mean sᵢ over the query's patches: the estimate before attention.
        "chosen by the query"
            (M,), the share of the query's patches that selected each region.
        """
        if query is None:
            return self(bag).explanations  # type: ignore[no-any-return]
        self.check(bag)
        check_query(query, len(bag))
        slide = self._cache.of(self, bag, self._prepare)
        regions = slide.regions
        metadata = self._metadata(bag.features[query], _places(bag, query), slide.bounds)
        chosen = choose(*metadata, self._top(regions))[1]  # (Q, T)
        a, by_region = self._attention(bag.features[query], slide, chosen)
        score, index = mean_scores(*metadata), regions.index
        return (
            Explanation(
                "attention of the query", ExplanationKind.ATTENTION, a, absent="in no chosen region"
            ),
            Explanation(
                "attention by region",
                ExplanationKind.ATTENTION,
                by_region,
                index,
                absent="in no chosen region",
            ),
            Explanation("region score", ExplanationKind.AMOUNT, score, index, unit="|q·m|"),
            replace(_chosen_by("chosen by the query", chosen, regions), outlined=True),
        )

    def _regions(self, bag: Bag) -> Regions:
        assert bag.grid is not None  # see `check`
        return partition(bag.grid, self.region_size, self.regions).to(bag.features.device)

    def _top(self, regions: Regions) -> int:
        return min(self.top_regions, len(regions))

    def _prepare(self, bag: Bag) -> Asked:
        regions = self._regions(bag)
        features = bag.features[regions.order]
        keys = by_rows(lambda x: self._key(self._embed(x)), features)
        return Asked(regions, self._bounds(features, regions), keys)

    def _bounds(self, features: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
        """Return (M, D) minimum and maximum standardized features.

        `features` are sorted by region.
        """
        low, high = regions.extremes(features)
        return self.standardize(low), self.standardize(high)

    def _metadata(
        self, features: Tensor, places: Tensor, bounds: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q̂ of query patches, m̂⁻ and m̂⁺ of regions."""
        q, low, high = self.metadata(by_rows(self.standardize, features), places, *bounds)
        return q, low, high

    def _attention(self, features: Tensor, slide: Asked, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return attention to patches (N,) and to regions (M,).

        NaN outside of the selected regions.
        """
        regions = slide.regions
        q = by_rows(lambda x: self._query(self._embed(x)), features)  # (Q, heads, d)
        a = received(q, slide.keys, regions.sizes, chosen)  # (N,) sorted by region
        index = regions.sorted_index
        by_region = a.new_zeros(len(regions)).index_add_(0, index, a)
        unselected = chosen.flatten().bincount(minlength=len(regions)) == 0
        a = regions.unsort(a.masked_fill(unselected[index], torch.nan))
        return a, by_region.masked_fill(unselected, torch.nan)

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h

    def _query(self, h: Tensor) -> Tensor:
        return self._by_head(self.queries, h)

    def _key(self, h: Tensor) -> Tensor:
        return self._by_head(self.keys, h)

    def _value(self, h: Tensor) -> Tensor:
        return self._by_head(self.values, h)

    def _by_head(self, linear: nn.Module, h: Tensor) -> Tensor:
        projected: Tensor = linear(self.norm(h))
        return projected.view(len(h), self.heads, -1)

    def _after(self, h: Tensor, o: Tensor) -> Tensor:
        h = h + self.projection(o)
        return h if self.ffn is None else h + self.ffn(h)


def _ffn(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
    )


def _places(bag: Bag, patches: Tensor) -> Tensor:
    """Return (n, 2) corners of patches in level-0 pixels, float64."""
    assert bag.grid is not None
    return torch.from_numpy(bag.grid.coords).to(patches.device)[patches].double()


def _chosen_by(name: str, chosen: Tensor, regions: Regions) -> Explanation:
    """Return the share of queries that selected each region.

    The shares sum to T.
    """
    times = chosen.flatten().bincount(minlength=len(regions))
    share = times.to(torch.float32) / len(chosen)
    return Explanation(name, ExplanationKind.PROBABILITY, share, regions.index)
