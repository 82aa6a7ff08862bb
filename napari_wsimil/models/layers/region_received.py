"""Received: the attention that the patches of regions get of a few hundred queries.

Each region then has a handful of queries, and a visit of one region at a time would be all
overhead. Regions are cut into tiles of a few patches, the queries of a tile into blocks, and
the products of all blocks are taken at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 64  # patches of a tile, at most
BLOCK = 8  # queries of a block, at most
LOGITS = 1 << 22  # numbers in a piece of the logits


def received(q: Tensor, k: Tensor, sizes: tuple[int, ...], chosen: Tensor) -> Tensor:
    """Return (P,), the attention that each patch gets, mean over queries and heads.

    It sums to 1, and is 0 where no query looked.

    Parameters
    ----------
    q
        (Q, H, d).
    k
        (P, H, d) of the patches, sorted by region.
    sizes
        Patches of each region.
    chosen
        (Q, T) int64, T different regions for each query.
    """
    with torch.no_grad():
        tiles = _tiles(torch.tensor(sizes, device=k.device))
        a = k.new_zeros(tiles.rows.shape)  # (tiles, W)
        most = chosen.shape[1] * int(tiles.count.max())
        step = max(1, LOGITS // (most * q.shape[1] * a.shape[1]))
        for part, regions in zip(q.split(step), chosen.split(step), strict=True):
            _add_attention(a, part, k, tiles, regions)
        out = k.new_zeros(len(k))
        out[tiles.rows[tiles.valid]] = a[tiles.valid]
        return out / (len(q) * q.shape[1])


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Regions cut into pieces of W patches or fewer."""

    rows: Tensor  # (tiles, W) int64, the patches of each; any where not valid
    valid: Tensor  # (tiles, W) bool
    first: Tensor  # (M,) the first tile of each region
    count: Tensor  # (M,) how many it has


def _tiles(sizes: Tensor) -> _Tiles:
    width = min(WIDTH, int(sizes.max()))
    count = (sizes + width - 1) // width
    region, number = _runs(count)
    offset = number[:, None] * width + torch.arange(width, device=sizes.device)
    valid = offset < sizes[region, None]
    rows = (sizes.cumsum(0) - sizes)[region, None] + offset.minimum(sizes[region, None] - 1)
    return _Tiles(rows, valid, count.cumsum(0) - count, count)


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return which run each of Σ lengths members is of, and its number in the run."""
    which = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    starts = lengths.cumsum(0) - lengths
    return which, torch.arange(len(which), device=lengths.device) - starts[which]


def _add_attention(a: Tensor, q: Tensor, k: Tensor, tiles: _Tiles, chosen: Tensor) -> None:
    """Add to (tiles, W) the attention of (n, H, d) queries, the sum over them and the heads."""
    pair, number = _runs(tiles.count[chosen].flatten())
    tile, order = (tiles.first[chosen].flatten()[pair] + number).sort(stable=True)  # (E,)
    query = pair[order].div(chosen.shape[1], rounding_mode="floor")
    e = _logits(q, k, tiles, tile, query)  # (H, E, W)
    top = e.new_full((len(e), len(q)), -math.inf)  # (H, n)
    top.scatter_reduce_(1, query.expand(len(e), -1), e.amax(dim=2), "amax")
    p = e.sub_(top[:, query, None]).exp_()
    total = torch.zeros_like(top).index_add_(1, query, p.sum(dim=2))
    p /= total[:, query, None]
    a.index_add_(0, tile, p.sum(dim=0))


def _logits(q: Tensor, k: Tensor, tiles: _Tiles, tile: Tensor, query: Tensor) -> Tensor:
    """Return (H, E, W) q·k / √d of queries with tiles, in the order of the tiles; -inf beyond."""
    queries = tile.bincount(minlength=len(tiles.rows))
    blocks = (queries + BLOCK - 1) // BLOCK
    number = _runs(queries)[1]
    block, slot = (blocks.cumsum(0) - blocks)[tile] + number // BLOCK, number % BLOCK
    of = _runs(blocks)[0]  # (blocks,) the tile of each
    left = q.new_zeros(len(of), BLOCK, *q.shape[1:])
    left[block, slot] = q[query] * q.shape[2] ** -0.5
    right = k[tiles.rows[of]]  # (blocks, W, H, d)
    e = q.new_empty(q.shape[1], len(of), BLOCK, right.shape[1])
    for h, out in enumerate(e):
        torch.bmm(left[:, :, h], right[:, :, h].mT, out=out)
    return e[:, block, slot].masked_fill_(~tiles.valid[tile], -math.inf)
