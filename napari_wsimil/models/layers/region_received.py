"""Attention that regions' patches receive from a few hundred queries.

With a few queries per region, processing one region at a time would be mostly overhead.
Regions are therefore cut into tiles of a few patches, the queries of a tile into blocks, and
the products of all blocks are computed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 64  # most patches of a tile
BLOCK = 8  # most queries of a block
LOGITS = 1 << 22  # numbers in a chunk of the logits


def received(q: Tensor, k: Tensor, sizes: tuple[int, ...], chosen: Tensor) -> Tensor:
    """Return (P,) attention received by each patch.

    Mean over queries and heads. It sums to 1, and is 0 in regions that no query selected.

    Parameters
    ----------
    q
        (Q, H, d).
    k
        (P, H, d) of the patches, sorted by region.
    sizes
        Number of patches of each region.
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
    """Regions cut into tiles of at most W patches."""

    rows: Tensor  # (tiles, W) int64, the patches of each; arbitrary where not valid
    valid: Tensor  # (tiles, W) bool
    first: Tensor  # (M,) the first tile of each region
    count: Tensor  # (M,) number of tiles of each region


def _tiles(sizes: Tensor) -> _Tiles:
    width = min(WIDTH, int(sizes.max()))
    count = (sizes + width - 1) // width
    region, number = _runs(count)
    offset = number[:, None] * width + torch.arange(width, device=sizes.device)
    valid = offset < sizes[region, None]
    rows = (sizes.cumsum(0) - sizes)[region, None] + offset.minimum(sizes[region, None] - 1)
    return _Tiles(rows, valid, count.cumsum(0) - count, count)


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return each member's run index and position in its run.

    (Σ lengths,) each; run i has lengths[i] members.
    """
    which = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    starts = lengths.cumsum(0) - lengths
    return which, torch.arange(len(which), device=lengths.device) - starts[which]


def _add_attention(a: Tensor, q: Tensor, k: Tensor, tiles: _Tiles, chosen: Tensor) -> None:
    """Add the attention of queries to each tile.

    `a` is (tiles, W), `q` (n, H, d). Summed over queries and heads.
    """
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
    """Return the logits q·k / √d of (query, tile) pairs.

    (H, E, W), in the order of the tiles; -inf beyond the patches of a tile.
    """
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
