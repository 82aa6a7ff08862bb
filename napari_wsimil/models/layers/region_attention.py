"""Exact attention of each patch to a few selected regions.

Patches are sorted by region, so that a region's keys are one slice. All (query, region)
pairs are sorted by region, and each region is processed once with all its queries: two small
dense products instead of a gather of keys per query.
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

CHOICES = 1 << 17  # numbers in a chunk of the (N, M) scores
LOGITS = 1 << 18  # numbers in a chunk of the logits: about 1 MB, the cache of a core
ROWS = 512  # queries in a chunk of row-wise products
HUGE = 2.0**60  # sums of exponentials above it or below 1 / it are near the float limits


def choose(q: Tensor, low: Tensor, high: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return scores and indices of each query's best regions.

    Both are (N, T). s_i = max(|q·low_i|, |q·high_i|), best first. The scores carry gradients to
    all three arguments. No (N, M) matrix is stored.

    Parameters
    ----------
    q
        (N, P) projected queries.
    low, high
        (M, P) projected minimum and maximum features of the regions.
    top
        T, at most M.
    """
    scores, chosen = _Choice.apply(q, low, high, top)  # type: ignore[no-untyped-call]
    return scores, chosen


def mean_scores(q: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return (M,) region scores, averaged over queries.

    Arguments as for `choose`.
    """
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
    """Return (N, H, d) attention to each query's selected regions.

    softmax(q·k / √d) v over the patches of these regions.

    Parameters
    ----------
    q
        (N, H, d), in any order.
    k, v
        (P, H, d) of the patches, sorted by region.
    sizes
        Number of patches of each region.
    chosen
        (N, T) int64, T different regions for each query.
    scores
        (N, T), of these regions. Each is added as s - sg(s) to the logits of all patches of
        its region: a term of value zero with the sum of the logits' gradients as its gradient.
        The values themselves are not used.
    """
    half = q.dtype in (torch.float16, torch.bfloat16)
    if half:
        q, k, v = q.float(), k.float(), v.float()
    with torch.autocast(q.device.type, enabled=False):
        o: Tensor = _Attention.apply(q, k, v, sizes, chosen, scores)  # type: ignore[no-untyped-call]
    return o


class _Choice(Function):
    """Top regions of each query, computed in chunks of queries."""

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
    """Return scores, regions and the two slopes, each (n, T).

    The slopes are the derivatives of a score by its product with `low` and with `high`.
    """
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
    """Softmax attention and gradient in base 2, region by region.

    Exponentials are first computed without subtracting a maximum: no rescaling between regions
    is then needed, and no precision is lost unless a query's sum leaves the range of floats. In
    that case everything is computed again relative to each query's largest logit.
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
            q_r = _gather(q, piece.queries)  # (H, n, d)
            do_r = _gather(do, piece.queries) / _gather(total, piece.queries)[:, :, None]
            p = _powers(q, k, top, piece)  # (H, n, K), before the division by their total
            _by_head(dv[piece.keys]).add_(p.mT @ do_r)
            de = torch.baddbmm(_gather(delta, piece.queries)[:, :, None], do_r, v_r.mT, beta=-1)
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
    span: slice  # position of these pairs among all, sorted by region


class _Pairs:
    """The (query, region) pairs sorted by region, iterated in chunks."""

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
        """Return rows sorted by region in query order.

        (N T, …), one row per pair, become (N, T, …).
        """
        rows = torch.empty_like(values).index_copy_(0, self._order, values)
        return rows.view(*self._shape, *rows.shape[1:])


def _accumulate(
    q: Tensor, k: Tensor, v: Tensor, top: Tensor | None, pairs: _Pairs
) -> tuple[Tensor, Tensor]:
    """Return numerators and denominators of the softmax.

    (N, H, d) Σ 2^(e - top) v and (N, H) Σ 2^(e - top).
    """
    o, sums = torch.zeros_like(q), q.new_empty(pairs.count, q.shape[1])
    for piece in pairs:
        p = _powers(q, k, top, piece)  # (H, n, K)
        sums[piece.span] = p.sum(dim=2).T
        _add_products(o, piece.queries, p, _by_head(v[piece.keys]))
    return o, pairs.unsort(sums).sum(dim=1)


def _powers(q: Tensor, k: Tensor, top: Tensor | None, piece: _Piece) -> Tensor:
    """Return (H, n, K) 2^(e - top) of a piece.

    A `top` of None is 0.
    """
    e = _logits(q, k, piece)
    if top is not None:
        e -= _gather(top, piece.queries)[:, :, None]
    return e.exp2_()


def _logits(q: Tensor, k: Tensor, piece: _Piece) -> Tensor:
    """Return the logits q·k / √d of a piece.

    (H, n, K), in base 2.
    """
    scale = math.log2(math.e) / math.sqrt(q.shape[2])
    return _gather(q, piece.queries) @ _by_head(k[piece.keys] * scale).mT


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
    """Return (N, H) row products of two tensors, in chunks.

    Both tensors are (N, H, d).
    """
    pieces = zip(x.split(ROWS), y.split(ROWS), strict=True)
    return torch.cat([(a * b).sum(dim=2) for a, b in pieces])


def _gather(x: Tensor, rows: Tensor) -> Tensor:
    """Return (H, n, …), selected rows of (N, H, …)."""
    return _by_head(x.index_select(0, rows))


def _add_products(x: Tensor, rows: Tensor, p: Tensor, y: Tensor) -> None:
    """Add p @ y to the selected rows of `x`.

    `x` is (N, H, d), `p` (H, n, K), `y` (H, K, d).
    """
    product = x.new_empty(len(rows), *x.shape[1:])  # `index_add_` is slow if not contiguous
    torch.bmm(p, y, out=_by_head(product))
    x.index_add_(0, rows, product)


def _by_head(x: Tensor) -> Tensor:
    """Return a view with the first two axes swapped.

    (n, H, …) becomes (H, n, …), or back; the same memory.
    """
    return x.transpose(0, 1)
