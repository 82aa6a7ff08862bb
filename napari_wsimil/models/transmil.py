"""TransMIL: Nyström attention, positional convolution (Shao et al., NeurIPS 2021)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput, Need
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead
from napari_wsimil.models.layers.positions import lattice_cells
from napari_wsimil.models.layers.regions import partition

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.slides.patch_grid import PatchGrid

ITERATIONS = 6  # of the pseudo-inverse, as in the Nyströmformer
REACH = 7  # width of the positional convolution in cells
MOST = 2**28  # largest number of values in the dense cells, 1 GB


class TransMIL(MILModel):
    """Two layers of Nyström attention with a positional convolution between.

    h = ReLU(W x̂ + b); h ← h + Nyström(LN(h)); h ← PPEG(h); h ← h + Nyström(LN(h)); then
    gated attention pooling as in ABMIL. With softmaxes taken over rows,
    Nyström(Q, K, V) = softmax(Q K̃ᵀ) softmax(Q̃ K̃ᵀ)⁺ (softmax(Q̃ Kᵀ) V) (Xiong et al., AAAI
    2021, eq. 13), each product divided by √d; Q̃ and K̃ are means over landmarks.

    It is in the style of TransMIL and deviates in four ways:

    * Landmarks are square blocks of the slide, as small as `landmarks` permits, instead of
      segments of the stored order; if every patch is its own landmark, this is full attention,
      as far as the pseudo-inverse converged.
    * PPEG convolves over the true positions; the paper folds the stored order into a square.
      Its three kernels (7, 5 and 3 wide) and the identity add up to one kernel 7 wide plus the
      identity, and this sum is trained.
    * The slide is pooled by attention, not read from a class token: the attention of a class
      token passes through the pseudo-inverse, may be negative, and gives no map.
    * There is no convolution over the values, which would follow the stored order.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    heads
        Heads of the self-attention; they share the width.
    landmarks
        Largest number of landmarks; time and memory grow with N times this number.
    attention_dim
        L, the width of the pooling's V and U.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PLACES})

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 256,
        heads: int = 4,
        landmarks: int = 64,
        attention_dim: int = 128,
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if landmarks < 1:
            raise ValueError(f"landmarks must be at least 1, not {landmarks}")
        self.width = width
        self.heads = heads
        self.landmarks = landmarks
        self.attention_dim = attention_dim
        self.embedding = nn.Linear(feature_dim, width)
        self.layers = nn.ModuleList(NystromAttention(width, heads) for _ in range(2))
        self.places = nn.Conv2d(width, width, REACH, padding=REACH // 2, groups=width)
        self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, pooling attention and the head's maps per class.

        The maps refer to the patches after the layers.
        """
        self.check(bag)
        grid = cast("PatchGrid", bag.grid)
        means = block_means(grid, self.landmarks).to(bag.features)  # (M, N)
        h = by_rows(self._embed, bag.features)  # (N, H)
        h = h + self.layers[0](h, means)
        h = h + self._convolve(h, torch.from_numpy(lattice_cells(grid)).to(h.device))
        h = h + self.layers[1](h, means)
        a = by_rows(self.attention, h)[:, 0].softmax(dim=0)  # (N,)
        return MILOutput(
            logits=self.head(a @ h),
            explanations=(
                Explanation("attention", ExplanationKind.ATTENTION, a.detach()),
                *self.head.maps(h, a),
            ),
        )

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h

    def _convolve(self, h: Tensor, cells: Tensor) -> Tensor:
        """Return (N, H) of PPEG without its identity.

        Empty cells count as 0; a cell with several patches contains their mean.
        """
        columns, rows = (cells.amax(dim=0) + 1).tolist()
        if rows * columns * h.shape[1] > MOST:
            raise ValueError(
                f"the patches span {columns} by {rows} cells, too many for PPEG: "
                "use patches that overlap less, or another model"
            )
        place = cells[:, 1] * columns + cells[:, 0]  # (N,)
        count = h.new_zeros(rows * columns).index_add(0, place, h.new_ones(len(h)))
        dense = h.new_zeros(rows * columns, h.shape[1]).index_add(0, place, h / count[place, None])
        convolution = self.places(dense.T.reshape(1, -1, rows, columns))[0]  # (H, rows, columns)
        output: Tensor = convolution.flatten(1).T[place]
        return output


class NystromAttention(nn.Module):
    """Pre-norm self-attention through landmarks.

    Parameters
    ----------
    width, heads
        H, and the number of heads that share it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} must be a multiple of heads {heads}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)

    def forward(self, h: Tensor, means: Tensor) -> Tensor:
        """Return (N, H) attention output of (N, H) patches.

        `means` (M, N) averages patches to landmarks.
        """
        qkv = self.qkv(self.norm(h)).view(len(h), 3, self.heads, -1)
        q, k, v = qkv.permute(1, 2, 0, 3)  # (heads, N, d)
        q = q / math.sqrt(q.shape[-1])
        near_q, near_k = means @ q, means @ k  # (heads, M, d)
        to = (q @ near_k.mT).softmax(dim=-1)  # (heads, N, M)
        middle = (near_q @ near_k.mT).softmax(dim=-1)  # (heads, M, M)
        out = to @ (pseudo_inverse(middle) @ ((near_q @ k.mT).softmax(dim=-1) @ v))
        output: Tensor = self.projection(out.transpose(0, 1).reshape(len(h), -1))
        return output


def pseudo_inverse(a: Tensor) -> Tensor:
    """Return (…, M, M) approximate inverses.

    A third-order iteration (Razavi et al. 2014).
    """
    norms = a.abs().sum(dim=-1).amax(dim=-1) * a.abs().sum(dim=-2).amax(dim=-1)
    z = a.mT / norms[..., None, None]
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    for _ in range(ITERATIONS):
        az = a @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z


def block_means(grid: PatchGrid, most: int) -> Tensor:
    """Return averages over square blocks, (M, N) float32.

    M ≤ `most`. Each row averages the patches of one block. The blocks are the smallest squares
    of the lattice with at most `most` of them.
    """
    side = max(1, math.isqrt(len(grid) // most))
    while len(blocks := partition(grid, side * side)) > most:
        side += 1
    member = F.one_hot(blocks.index, len(blocks)).T.float()
    return member / member.sum(dim=1, keepdim=True)
