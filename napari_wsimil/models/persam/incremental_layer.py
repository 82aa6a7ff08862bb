"""Incremental encoder layer of PersAM-live, for edits of the record.

Attention among class and patch tokens ("rows" here) does not depend on the record. With O
their attention over rows alone and λ its log-sum-exp, attention over rows and the M tokens of
a record is a O + Σ b_m v_m with (a, b) = softmax(λ, q·k_1, …, q·k_M). With one head and norms
before the layer only, x₁ = x + a z + Σ b_m y_m, z = W_o O + b_o, y_m = W_o v_m + b_o, is a sum
of 2 + M vectors: its norm follows from their products, W₁ norm₂(x₁) from those of the parts,
and W₂ is needed only towards the C + M query vectors of the aggregator. Stored per row are x, z,
their products with W₁, and seven numbers: 8 (R + F) bytes and some.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.layers.chunked import by_rows, in_runs, side_by_side

if TYPE_CHECKING:
    from torch import Tensor


READ = 2048  # rows of a chunk that a record attends to: small enough for the cache


class OneLayer(nn.Module):
    """Pre-norm encoder layer with one head, no final norm.

    x₁ = x + W_o softmax(q kᵀ/√R) v + b_o with q, k, v of norm₁(x), h = x₁ + FFN(norm₂(x₁)),
    FFN = W₂ GELU(W₁ · + b₁) + b₂. Queries are processed in chunks: no T × T matrix is stored.

    Parameters
    ----------
    width
        R.
    feedforward
        Width between W₁ and W₂.
    """

    def __init__(self, width: int, feedforward: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, R) encoded tokens."""
        k, v = self.keys_values(x)
        return by_rows(lambda rows: self.mixed(self._attend(rows, k, v)), x)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return k and v (T, R) of all tokens."""
        k = by_rows(lambda rows: self.key(self.norm1(rows)), x)
        v = by_rows(lambda rows: self.value(self.norm1(rows)), x)
        return k, v

    def mixed(self, x1: Tensor) -> Tensor:
        """Return h of x₁, row by row."""
        h: Tensor = x1 + self.down(F.gelu(self.up(self.norm2(x1))))
        return h

    def _attend(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = self.query(self.norm1(x))
        o = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]
        x1: Tensor = x + self.out(o)
        return x1


@dataclass(frozen=True, eq=False)
class Rows:
    """Record-independent quantities of class tokens and patches.

    Attributes
    ----------
    x, z
        (T, R) tokens and their attention output, each minus its mean.
    up_x, up_z
        (T, F), their products with W₁ ⊙ the gain of norm₂.
    mean_x, mean_z
        (T,) the subtracted means.
    inner
        (T,) inverse deviations of norm₁.
    lse
        (T,) log-sum-exp of the attention over rows.
    xx, xz, zz
        (T,) float64, products of x and z.
    """

    x: Tensor
    z: Tensor
    up_x: Tensor
    up_z: Tensor
    mean_x: Tensor
    mean_z: Tensor
    inner: Tensor
    lse: Tensor
    xx: Tensor
    xz: Tensor
    zz: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def empty(cls, tokens: Tensor, feedforward: int) -> Rows:
        """Return uninitialized buffers for (T, R) tokens."""
        width = tokens.shape[1]
        wide = [tokens.new_empty(len(tokens), w) for w in (width, width, feedforward, feedforward)]
        narrow = [tokens.new_empty(len(tokens)) for _ in range(4)]
        exact = [tokens.new_empty(len(tokens), dtype=torch.float64) for _ in range(3)]
        return cls(*wide, *narrow, *exact)

    def put(self, other: Rows) -> None:
        """Overwrite these rows with `other`."""
        for field in fields(self):
            getattr(self, field.name).copy_(getattr(other, field.name))

    def take(self, piece: slice) -> Rows:
        """Return the rows of a slice, without a copy."""
        return Rows(*(getattr(self, field.name)[piece] for field in fields(self)))

    def gather(self, index: Tensor, room: Rows) -> Rows:
        """Return copies of indexed rows in the buffer `room`.

        `room` has as many rows or more. Allocating for each piece would take longer than the copy.
        """
        names = [field.name for field in fields(self)]
        return Rows(
            *(
                torch.index_select(getattr(self, n), 0, index, out=getattr(room, n)[: len(index)])
                for n in names
            )
        )


@dataclass(frozen=True, eq=False)
class Mixture:
    """Rows with attention to a record.

    x₁ = x + a z + Σ b_m y_m.

    Attributes
    ----------
    rows
        T rows.
    a, b
        (T,) and (T, M), shares of attention.
    outer
        (T,) inverse deviations of norm₂.
    y, mean_y
        (M, R) W_o v_m + b_o minus their means, and these (M,).
    inside
        (M + 1, F), products of y with W₁ ⊙ the gain of norm₂, and W₁ times its bias plus b₁.
    """

    rows: Rows
    a: Tensor
    b: Tensor
    outer: Tensor
    y: Tensor
    mean_y: Tensor
    inside: Tensor

    def total(self, w: Tensor) -> Tensor:
        """Return weighted sums Σ w_l x₁_l (K, R).

        The weights `w` are (K, T).
        """
        rows, wa, wb = self.rows, w * self.a, w @ self.b
        means = w @ rows.mean_x + wa @ rows.mean_z + wb @ self.mean_y  # (K,)
        return w @ rows.x + wa @ rows.z + wb @ self.y + means[:, None]

    def towards(self, u: Tensor) -> Tensor:
        """Return x₁·u, (T, K), for u (K, R)."""
        rows = self.rows
        means = rows.mean_x + self.a * rows.mean_z + self.b @ self.mean_y  # (T,)
        flat = torch.addmm(means[:, None] * u.sum(dim=1), self.b, self.y @ u.T)
        return flat.addmm_(rows.x, u.T).addcmul_(self.a[:, None], rows.z @ u.T)

    def hidden(self, room: Tensor) -> Tensor:
        """Return the hidden values in the buffer `room`.

        They are GELU(W₁ norm₂(x₁) + b₁), (T, F). `room` has as many rows or more. Allocating
        for each piece would take as long as the rest, and so would a product with the few rows
        of `inside`.
        """
        outer = self.outer[:, None]
        h = room[: len(outer)].copy_(self.inside[-1])
        for share, added in zip((self.b * outer).T, self.inside[:-1], strict=True):
            h.addcmul_(share[:, None], added)
        h.addcmul_(self.rows.up_x, outer).addcmul_(self.rows.up_z, self.a[:, None] * outer)
        hidden: Tensor = torch.ops.aten.gelu_(h)
        return hidden


@torch.no_grad()
def rows_of(layer: OneLayer, tokens: Tensor, k: Tensor, v: Tensor) -> Rows:
    """Return the record-independent rows of (T, R) tokens.

    `k` and `v` are those of all rows.
    """
    o, lse = attend(layer.query(layer.norm1(tokens)), k, v)
    x, mean_x = _centered(tokens)
    z, mean_z = _centered(layer.out(o))
    x64, z64 = x.double(), z.double()
    xx = x64.square().sum(dim=1)
    return Rows(
        x=x,
        z=z,
        up_x=_up(layer, x),
        up_z=_up(layer, z),
        mean_x=mean_x,
        mean_z=mean_z,
        inner=(xx / x.shape[1] + layer.norm1.eps).rsqrt().to(x.dtype),
        lse=lse,
        xx=xx,
        xz=(x64 * z64).sum(dim=1),
        zz=z64.square().sum(dim=1),
    )


def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention output and log-sum-exp.

    softmax(q kᵀ/√R) v (T, R) and the log-sum-exp of q kᵀ/√R (T,).
    """
    s = (q * q.shape[1] ** -0.5) @ k.T
    top = s.amax(dim=1, keepdim=True)
    total = s.sub_(top).exp_().sum(dim=1, keepdim=True)
    return s @ v / total, (top + total.log())[:, 0]


class Mixing:
    """Effect of a record's tokens on any rows, computed once.

    Parameters
    ----------
    layer
        Encoder layer of PersAM-live.
    record
        (M, R) tokens.
    """

    def __init__(self, layer: OneLayer, record: Tensor) -> None:
        n = layer.norm1(record)
        self._layer = layer
        self._keys = _toward(layer, layer.key(n), layer.query)
        self._y, self._mean_y = _centered(layer.out(layer.value(n)))
        self._inside = torch.cat([_up(layer, self._y), layer.up(layer.norm2.bias)[None]])

    def of(self, rows: Rows) -> Mixture:
        """Return rows with attention to the record."""
        s = _products(rows, *self._keys)  # (T, M)
        share = torch.cat([rows.lse[:, None], s], dim=1).softmax(dim=1)
        a, b = share[:, 0], share[:, 1:]
        outer = _inverse_deviation(self._layer, rows, a, b, self._y)
        return Mixture(rows, a, b, outer, self._y, self._mean_y, self._inside)


def _toward(layer: OneLayer, other: Tensor, side: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return both factors of scaled products with `other`.

    Products of `other` (M, R) with the queries or keys (`side`) of rows are products of the rows
    with vectors (M, R), plus constants (M,).
    """
    scale = other.shape[1] ** -0.5
    return layer.norm1.weight * (other @ side.weight) * scale, other @ side(
        layer.norm1.bias
    ) * scale


def _products(rows: Rows, toward: Tensor, fixed: Tensor) -> Tensor:
    """Return (T, M) scaled products of rows, from `_toward`."""
    s: Tensor = rows.inner[:, None] * (rows.x @ toward.T) + fixed
    return s


def _inverse_deviation(layer: OneLayer, rows: Rows, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """Return (T,) inverse deviations of norm₂ for x₁.

    x₁ = x + a z + Σ b_m y_m. In float64, since the parts may cancel.
    """
    xy, zy = (rows.x @ y.T).double(), (rows.z @ y.T).double()  # (T, M)
    a, b, y = a.double(), b.double(), y.double()
    own = rows.xx + a * (2 * rows.xz + a * rows.zz)
    squares = own + (b * (2 * (xy + a[:, None] * zy) + b @ (y @ y.T))).sum(dim=1)
    return (squares / y.shape[1] + layer.norm2.eps).rsqrt().to(rows.x.dtype)


def read(layer: OneLayer, rows: Rows, record: Tensor) -> Tensor:
    """Return x₁ (M, R) of a record's tokens.

    They attend to all rows and to each other.
    """
    n = layer.norm1(record)
    q, k, v = layer.query(n), layer.key(n), layer.value(n)
    toward = _toward(layer, q, layer.key)
    pieces = [rows.take(slice(at, at + READ)) for at in range(0, len(rows), READ)]
    runs = side_by_side(lambda run: [_attend_rows(one, *toward) for one in run], in_runs(pieces))
    lse, sums = zip(*chain.from_iterable(runs), strict=True)
    own = k @ q.T * q.shape[1] ** -0.5  # (M, M)
    p = torch.cat([torch.stack(lse), own]).softmax(dim=0)  # (P + M, M), of P pieces
    p, p_own = p.split([len(lse), len(record)])
    pooled = (p[:, :, None] * torch.stack(sums)).sum(dim=0) * layer.norm1.weight
    o = F.linear(pooled, layer.value.weight) + p.sum(dim=0)[:, None] * layer.value(layer.norm1.bias)
    x1: Tensor = record + layer.out(o + p_own.T @ v)
    return x1


def _attend_rows(rows: Rows, toward: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention of a record's tokens over some rows alone.

    These are the log-sum-exp (M,) of their products, and (M, R) Σ p n, without gain and bias of
    norm₁.
    """
    s = _products(rows, toward, fixed)  # (T, M)
    lse = s.logsumexp(dim=0)
    return lse, ((s - lse).exp_() * rows.inner[:, None]).T @ rows.x


def _up(layer: OneLayer, x: Tensor) -> Tensor:
    return F.linear(x * layer.norm2.weight, layer.up.weight)


def _centered(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=1)
    return x - mean[:, None], mean
