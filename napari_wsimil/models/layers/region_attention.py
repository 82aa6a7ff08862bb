"""RegionAttention: exact attention of each patch to the few regions it chose.

The patches come sorted by region, so that a region's keys are one slice. All (query,
region) pairs are sorted by region, and each region is visited once with all its queries:
two small dense products instead of a gather of keys per query.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

CHOICES = 1 << 17  # numbers in a piece of the (N, M) scores
LOGITS = 1 << 18  # numbers in a piece of the logits: about 1 MB, the cache of a core
ROWS = 512  # queries in a piece of what is done to each alone
HUGE = 2.0**60  # sums of exponentials above it, or below 1 / it, are too near the limits


def choose(q: Tensor, low: Tensor, high: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the scores (N, T) of the best regions of each query, and which they are.

    s_i = max(|q·low_i|, |q·high_i|), best first. The scores carry gradients to all three
    arguments. No (N, M) matrix is kept.

    Parameters
    ----------
    q
        (N, P) projected queries.
    low, high
        (M, P) projected least and greatest features of the regions.
    top
        T, at most M.
    """
    scores, chosen = _Choice.apply(q, low, high, top)  # type: ignore[no-untyped-call]
    return scores, chosen


def mean_scores(q: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return (M,) the scores of all regions, mean over the queries; arguments as `choose`."""
    pieces = (_products(part, low, high)[2].sum(dim=0) for part in q.split(_rows(low)))
    return torch.stack(list(pieces)).sum(dim=0) / len(q)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sizes: tuple[int, ...],
    chosen: Tensor,
    scores: Tensor,
) -> Tensor:
    """Return (N, H, d): softmax(q·k / √d) v over the patches of each query's chosen regions.

    Parameters
    ----------
    q
        (N, H, d), in any order.
    k, v
        (P, H, d) of the patches, sorted by region.
    sizes
        Patches of each region.
    chosen
        (N, T) int64, T different regions for each query.
    scores
        (N, T), of these regions. Each stands as s - sg(s) in the logits of all patches of
        its region: a term of value zero, whose gradient is the sum of the logits'. The
        numbers themselves are not read.
    """
    half = q.dtype in (torch.float16, torch.bfloat16)
    if half:
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False):
        o: Tensor = _Attention.apply(q, k, v, sizes, chosen, scores)  # type: ignore[no-untyped-call]
    return o


class _Choice(Function):
    """The top regions of each query, a piece of queries at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, low: Tensor, high: Tensor, top: int) -> tuple[Tensor, Tensor]:
        parts = [_choose_piece(part, low, high, top) for part in q.split(_rows(low))]
        scores, chosen, slope_low, slope_high = (torch.cat(c) for c in zip(*parts, strict=True))
        ctx.save_for_backward(q, low, high, chosen, slope_low, slope_high)
        ctx.mark_non_differentiable(chosen)
        return scores, chosen

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, low, high, chosen, slope_low, slope_high = ctx.saved_tensors
        dq, dlow, dhigh = torch.zeros_like(q), torch.zeros_like(low), torch.zeros_like(high)
        for rows in torch.arange(len(q), device=q.device).split(_rows(low)):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            for bound, dbound, slope in ((low, dlow, slope_low), (high, dhigh, slope_high)):
                ds = q.new_zeros(len(rows), len(low))
                ds.scatter_(1, chosen[part], grad[part] * slope[part])
                dq[part].addmm_(ds, bound)
                dbound.addmm_(ds.T, q[part])
        return dq, dlow, dhigh, None


def _rows(regions: Tensor) -> int:
    return max(1, CHOICES // len(regions))


def _choose_piece(q: Tensor, low: Tensor, high: Tensor, top: int) -> tuple[Tensor, ...]:
    """Return scores, regions, and the slopes of the scores by either product, each (n, T)."""
    a, b, s = _products(q, low, high)
    s, chosen = s.topk(top, dim=1)
    a, b = a.gather(1, chosen), b.gather(1, chosen)
    by_low = a.abs() >= b.abs()
    return s, chosen, a.sign() * by_low, b.sign() * ~by_low


def _products(q: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (n, M) products with either bound, and the scores."""
    a, b = q @ low.T, q @ high.T
    return a, b, torch.maximum(a.abs(), b.abs())


class _Attention(Function):
    """Softmax attention and its gradient in base 2, one region at a time.

    Exponentials are first taken as they are: then nothing need be rescaled from region to
    region, and nothing is lost unless a query's sum of them leaves the range of numbers.
    If one does, all is done once more from each query's largest logit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sizes: tuple[int, ...],
        chosen: Tensor,
        _: Tensor,
    ) -> Tensor:
        pairs = _Pairs(chosen, sizes, q.shape[1])
        top = None
        o, total = _accumulate(q, k, v, top, pairs)
        if not _in_range(total):
            top = _maxima(q, k, pairs)
            o, total = _accumulate(q, k, v, top, pairs)
        o /= total[:, :, None]
        ctx.save_for_backward(q, k, v, o, top, total)
        ctx.pairs = pairs
        return o

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, o, top, total = ctx.saved_tensors
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        pairs = ctx.pairs
        dscores = q.new_empty(pairs.count)
        delta = _dots(do, o) / total  # (N, H)
        for piece in pairs:
            k_r, v_r = _by_head(k[piece.keys]), _by_head(v[piece.keys])  # (H, K, d)
            q_r = _picked(q, piece.queries)  # (H, n, d)
            do_r = _picked(do, piece.queries) / _picked(total, piece.queries)[:, :, None]
            p = _powers(q, k, top, piece)  # (H, n, K), not yet divided by their total
            _by_head(dv[piece.keys]).add_(p.mT @ do_r)
            de = torch.baddbmm(_picked(delta, piece.queries)[:, :, None], do_r, v_r.mT, beta=-1)
            de.mul_(p)
            dscores[piece.span] = de.sum(dim=(0, 2))
            _by_head(dk[piece.keys]).add_(de.mT @ q_r)
            _add_products(dq, piece.queries, de, k_r)
        scale = 1 / math.sqrt(q.shape[2])
        return dq.mul_(scale), dk.mul_(scale), dv, None, None, pairs.unsort(dscores)


class _Piece(NamedTuple):
    """Some queries of one region."""

    keys: slice  # the patches of the region
    queries: Tensor  # (n,) all different
    span: slice  # where these pairs are among all, sorted by region


class _Pairs:
    """The (query, region) pairs sorted by region, iterated a piece at a time."""

    def __init__(self, chosen: Tensor, sizes: tuple[int, ...], heads: int) -> None:
        flat = chosen.flatten()
        self.count = len(flat)
        self._shape = chosen.shape
        self._order = flat.argsort(stable=True)
        self._queries = self._order.div(chosen.shape[1], rounding_mode="floor")
        self._counts: list[int] = flat.bincount(minlength=len(sizes)).tolist()
        self._sizes = sizes
        self._heads = heads

    def __iter__(self) -> Iterator[_Piece]:
        key = pair = 0
        for size, count in zip(self._sizes, self._counts, strict=True):
            step = max(1, LOGITS // (size * self._heads))
            for first in range(pair, pair + count, step):
                span = slice(first, min(first + step, pair + count))
                yield _Piece(slice(key, key + size), self._queries[span], span)
            key += size
            pair += count

    def unsort(self, values: Tensor) -> Tensor:
        """Return (N, T, …) of rows (N T, …) per pair, given sorted by region."""
        rows = torch.empty_like(values).index_copy_(0, self._order, values)
        return rows.view(*self._shape, *rows.shape[1:])


def _accumulate(
    q: Tensor, k: Tensor, v: Tensor, top: Tensor | None, pairs: _Pairs
) -> tuple[Tensor, Tensor]:
    """Return (N, H, d) Σ 2^(e - top) v and (N, H) Σ 2^(e - top)."""
    o, sums = torch.zeros_like(q), q.new_empty(pairs.count, q.shape[1])
    for piece in pairs:
        p = _powers(q, k, top, piece)  # (H, n, K)
        sums[piece.span] = p.sum(dim=2).T
        _add_products(o, piece.queries, p, _by_head(v[piece.keys]))
    return o, pairs.unsort(sums).sum(dim=1)


def _powers(q: Tensor, k: Tensor, top: Tensor | None, piece: _Piece) -> Tensor:
    """Return (H, n, K) 2^(e - top) of a piece; a `top` of None is 0."""
    e = _logits(q, k, piece)
    if top is not None:
        e -= _picked(top, piece.queries)[:, :, None]
    return e.exp2_()


def _logits(q: Tensor, k: Tensor, piece: _Piece) -> Tensor:
    """Return (H, n, K) q·k / √d of a piece, in base 2."""
    scale = math.log2(math.e) / math.sqrt(q.shape[2])
    return _picked(q, piece.queries) @ _by_head(k[piece.keys] * scale).mT


def _maxima(q: Tensor, k: Tensor, pairs: _Pairs) -> Tensor:
    """Return (N, H), each query's largest logit, in base 2."""
    top = q.new_full(q.shape[:2], -math.inf)
    for piece in pairs:
        most = _by_head(_logits(q, k, piece).amax(dim=2))  # (n, H)
        top[piece.queries] = top[piece.queries].maximum(most)
    return top


def _in_range(total: Tensor) -> bool:
    return bool(((total > 1 / HUGE) & (total < HUGE)).all())


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """Return (N, H) products of (N, H, d) with (N, H, d), in pieces."""
    pieces = zip(x.split(ROWS), y.split(ROWS), strict=True)
    return torch.cat([(a * b).sum(dim=2) for a, b in pieces])


def _picked(x: Tensor, rows: Tensor) -> Tensor:
    """Return (H, n, …) of those rows of (N, H, …)."""
    return _by_head(x.index_select(0, rows))


def _add_products(x: Tensor, rows: Tensor, p: Tensor, y: Tensor) -> None:
    """Add (H, n, K) p @ (H, K, d) y to those rows of (N, H, d)."""
    product = x.new_empty(len(rows), *x.shape[1:])  # `index_add_` is slow if not contiguous
    torch.bmm(p, y, out=_by_head(product))
    x.index_add_(0, rows, product)


def _by_head(x: Tensor) -> Tensor:
    """Return (n, H, …) as (H, n, …), or back; the same memory."""
    return x.transpose(0, 1)
