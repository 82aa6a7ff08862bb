"""LongMIL: local, then global attention (NeurIPS 2024)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from napari_wsimil.models.base import (
    Explanation,
    ExplanationKind,
    MILModel,
    MILOutput,
    Need,
    check_query,
)
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.local_attention import local_attention
from napari_wsimil.models.layers.local_plan import plan_local
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead
from napari_wsimil.models.layers.positions import distance_bias, lattice_cells, rotate, two_by_two
from napari_wsimil.models.layers.result_cache import Recall

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.layers.local_plan import LocalPlan
    from napari_wsimil.slides.patch_grid import PatchGrid

    Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

START = 0.1  # factor of the initial weights of the layers' outputs
QUERIES = 512  # queries of the global layer in one chunk
SETTINGS = {"positions": ("rope", "alibi"), "pooling": ("attention", "mean")}


class LongMIL(MILModel):
    """Local attention, pooling to tokens, then global attention.

    h = ReLU(W x̂ + b). Each layer is h ← h + O·MHA(LN h), h ← h + MLP(LN h). In two local
    layers patch n attends to patch m where their Euclidean distance on the lattice is at
    most `radius`, in every head. Tokens are the means of the patches present in squares of
    2 × 2 cells; in one global layer each attends to all, with positions added by `positions`.
    With pooling by attention (the paper's eq. 2) u = LN(h), a = softmax(wᵀ(tanh(V u) ⊙
    sigmoid(U u))) and logits = C Σ aₘ uₘ + c; with pooling by the mean logits = C LN(mean h)
    + c, as in the paper's experiments.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of a token, divisible by 4·heads.
    attention_dim
        L, the width of V and U; unused when pooling is by the mean.
    heads
        Heads of each of the three layers.
    radius
        Largest distance of neighbors in steps between patches. Above the extent of a slide
        the local layers are full attention.
    positions
        "rope" rotates queries and keys by the position of their token; "alibi" subtracts
        slope · distance from the scores. Both are two-dimensional and use relative positions
        only.
    pooling
        "attention" or "mean".

    Notes
    -----
    For pooling by attention each token is normalized first, so that the slide is a sum over
    tokens, their evidence sums to the logits, and no token dominates by its length alone. For
    the mean the norm follows the pooling, as published; its scale is one number per slide, so
    that the sum over tokens is exact there, too. All maps refer to tokens after the three
    layers: a token contains information of its neighborhood and of the slide. Nothing depends
    on the number of patches: a model trained on small slides can process large ones.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PLACES})
    survives: ClassVar[bool] = True

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 384,
        attention_dim: int = 128,
        heads: int = 1,
        radius: int = 10,
        positions: str = "rope",
        pooling: str = "attention",
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if heads < 1 or width < 1 or width % (4 * heads) or radius < 0:
            raise ValueError(
                f"width {width} must be divisible by 4 · heads {heads}, and radius {radius} ≥ 0"
            )
        for name, value in (("positions", positions), ("pooling", pooling)):
            if value not in SETTINGS[name]:
                raise ValueError(f'{name} must be one of {SETTINGS[name]}, not "{value}"')
        self.width = width
        self.attention_dim = attention_dim
        self.heads = heads
        self.radius = radius
        self.positions = positions
        self.pooling = pooling
        self.embedding = nn.Linear(feature_dim, width)
        self.local_layers = nn.ModuleList(Layer(width, heads) for _ in range(2))
        self.global_layer = Layer(width, heads)
        self.norm = nn.LayerNorm(width)
        if pooling == "attention":
            self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)
        self._cache: Recall[tuple[LocalPlan, tuple[Tensor, Tensor]]] = Recall()

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, attention, and the head's maps per class.

        The maps are over tokens.
        """
        self.check(bag)
        assert bag.grid is not None
        cells = lattice_cells(bag.grid)
        plan = plan_local(cells, self.radius, bag.features.device)
        h = by_rows(self._embed, plan.sort(bag.features))  # (N, H)
        for layer in self.local_layers:
            h = layer(h, partial(local_attention, plan=plan))
        blocks = two_by_two(cells, h.device)
        h, received = self._global(blocks.mean(plan.unsort(h)), blocks.places)  # (M, H), (M,)
        u, a = self._pooled(h)  # (M, H), (M,)
        maps = (
            *self._attention_map(a),
            *self.head.maps(u, a),
            Explanation("attention received", ExplanationKind.ATTENTION, received),
        )
        return MILOutput(
            logits=self.head(a @ u),
            explanations=tuple(replace(map_, index=blocks.index) for map_ in maps),
            scalars=self._radii(bag.grid),
        )

    @torch.no_grad()
    def explain(self, bag: Bag, query: Tensor | None = None) -> tuple[Explanation, ...]:
        """Return a query's attention in each local layer.

        The last map is its neighborhood.

        The attention is averaged over the patches in `query` and over heads; NaN outside of their
        neighborhoods. Without a query these are the slide's maps. Intermediate results of a slide,
        2 · N · H numbers, are cached for further queries.
        """
        if query is None:
            return super().explain(bag)
        self.check(bag)
        check_query(query, len(bag))
        plan, before = self._cache.of(self, bag, self._prepare)
        assert bag.grid is not None
        rows, reach = plan.rows_of(query), self._reach(bag.grid)
        maps = [
            Explanation(
                f"attention, layer {number} (within {reach})",
                ExplanationKind.ATTENTION,
                plan.unsort(_neighborhood(layer, h, plan, rows)),  # (N,)
                family="neighborhood",
                absent="outside of the neighborhood",
            )
            for number, (layer, h) in enumerate(zip(self._local, before, strict=True), 1)
        ]
        near = (~maps[0].scores.isnan()).to(torch.float32)
        return (
            *maps,
            Explanation("neighborhood", ExplanationKind.PROBABILITY, near, outlined=True),
        )

    @property
    def _local(self) -> list[Layer]:
        return [layer for layer in self.local_layers if isinstance(layer, Layer)]

    def _prepare(self, bag: Bag) -> tuple[LocalPlan, tuple[Tensor, Tensor]]:
        """Return the plan and both local layers' (N, H) inputs."""
        assert bag.grid is not None
        plan = plan_local(lattice_cells(bag.grid), self.radius, bag.features.device)
        h = by_rows(self._embed, plan.sort(bag.features))  # (N, H)
        after = self.local_layers[0](h, partial(local_attention, plan=plan))
        return replace(plan), (h, after)  # a copy of the plan without its cached masks

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h

    def _global(self, h: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens after the global layer, and attention received.

        (M, H) and (M,).
        """
        received = []

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, shares = global_attention(q, k, v, places, self.positions)
            received.append(shares)
            return out

        return self.global_layer(h, attend), received[0]

    def _pooled(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, H) tokens u and (M,) weights a.

        The slide is Σ aₘ uₘ.
        """
        if self.pooling == "attention":
            u = self.norm(h)
            return u, by_rows(self.attention, u)[:, 0].softmax(dim=0)
        z = h.mean(dim=0)
        scale = (z.var(correction=0) + self.norm.eps).rsqrt()
        u = (h - h.mean(dim=1, keepdim=True)) * scale * self.norm.weight + self.norm.bias
        return u, h.new_full((len(h),), 1 / len(h))

    def _attention_map(self, a: Tensor) -> tuple[Explanation, ...]:
        if self.pooling == "mean":
            return ()
        return (Explanation("attention", ExplanationKind.ATTENTION, a.detach()),)

    def _reach(self, grid: PatchGrid) -> str:
        um = self._radii(grid).get("radius (µm)")
        return f"{self.radius} steps" if um is None else f"{um:.0f} µm"

    def _radii(self, grid: PatchGrid) -> dict[str, float]:
        radii = {"radius (steps)": float(self.radius)}
        if grid.mpp is not None:
            level0 = grid.mpp * grid.pixels / grid.patch_size  # µm per level-0 pixel
            radii["radius (µm)"] = self.radius * grid.stride * level0
        return radii


class Layer(nn.Module):
    """Transformer layer with a given attention function.

    h ← h + O·MHA(LN h), h ← h + MLP(LN h); the caller's function defines each token's neighbors.

    Both additions start small, so that a new model is close to attention pooling of independent
    tokens; started at full size, it may fail to learn rare lesions.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        narrow = nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), narrow
        )
        with torch.no_grad():
            for last in (self.out, narrow):
                last.weight *= START
                last.bias.zero_()

    def forward(self, h: Tensor, attend: Attention) -> Tensor:
        """Return (N, H) tokens after the layer.

        `attend` takes q, k and v (N, heads, d).
        """
        qkv = by_rows(lambda part: self.qkv(self.norm(part)), h)  # (N, 3 H)
        q, k, v = qkv.view(len(h), 3, self.heads, -1).unbind(1)
        h = h + by_rows(self.out, attend(q, k, v).flatten(1))
        return h + by_rows(self.mlp, h)

    def projected(self, h: Tensor, third: int) -> Tensor:
        """Return q, k or v of tokens before the layer.

        (N, heads, d); `third` is 0 for q, 1 for k, 2 for v.
        """
        weight = self.qkv.weight.chunk(3)[third]
        x: Tensor = by_rows(lambda part: F.linear(self.norm(part), weight), h)
        return x.view(len(h), self.heads, -1)


def global_attention(
    q: Tensor, k: Tensor, v: Tensor, places: Tensor, positions: str
) -> tuple[Tensor, Tensor]:
    """Return attention output and the attention each token receives.

    (M, heads, d) of M tokens that attend to all, and (M,) attention received: the mean over
    queries and heads, without gradient. Scores are computed for `QUERIES` queries at a time,
    also in the backward pass.

    Parameters
    ----------
    q, k, v
        (M, heads, d).
    places
        (M, 2).
    positions
        "rope" or "alibi".
    """
    if positions == "rope":
        q, k = rotate(q, places), rotate(k, places)
    out, received = [], torch.zeros(len(k), device=k.device)
    for part, at in zip(q.split(QUERIES), places.split(QUERIES), strict=True):
        bias = distance_bias(at, places, q.shape[1]) if positions == "alibi" else None
        output, shares = checkpoint(
            _attend, part, k, v, bias, use_reentrant=False, preserve_rng_state=False
        )
        out.append(output)
        received += shares * (len(part) / len(q))
    return torch.cat(out), received


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))  # (heads, N, d)
    e = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # (heads, Q, M)
    a = (e if bias is None else e + bias).softmax(dim=-1)
    return (a @ v).transpose(0, 1), a.detach().float().mean(dim=(0, 1))


def _neighborhood(layer: Layer, h: Tensor, plan: LocalPlan, rows: Tensor) -> Tensor:
    """Return (N,) attention of some rows to all rows.

    The mean over rows and heads; NaN outside of all neighborhoods. `h` is (N, H), before the
    layer.
    """
    a, visible = h.new_zeros(len(h)), torch.zeros_like(plan.order, dtype=torch.bool)
    for part in rows.split(QUERIES):
        around = plan.around(part)  # (n,)
        near = plan.near(part, around)  # (Q, n)
        q, k = layer.projected(h[part], 0), layer.projected(h[around], 1)
        e = torch.einsum("qhd,nhd->hqn", q, k) * q.shape[-1] ** -0.5
        a[around] += e.masked_fill(~near, -torch.inf).softmax(dim=-1).mean(dim=0).sum(dim=0)
        visible[around] |= near.any(dim=0)
    return (a / len(rows)).masked_fill(~visible, torch.nan)
