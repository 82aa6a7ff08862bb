"""Speeds of Querent's attention to chosen regions.

Tissue is in fragments of a few patches, half of the places of a region, as biopsies and worn
tissue are; `…_compact` is on the solid piece of tissue that the other methods have, whose
regions are nearly full, so that a patch attends to some 600 others and not 360.

- `querent_forward`: the layer from features and from q, k, v of all patches to the attention's
  output: least and greatest features of the regions, three projections to width 128, scores of
  all regions for all patches, top 5, exact attention. 12 by 12 places a region, 8 heads,
  against full attention of the same q, k, v. The projections to q, k and v, which both need,
  are in neither.
- `querent_train`: the same and its gradients to q, k, v and the three projections; up to 20,000
  patches, beyond which the baseline takes minutes.
- `querent_explain`: where one patch looks (`Querent.explain`), on a slide seen for the first
  time (wall time).

Features are of a few kinds of tissue, so that some regions are chosen by many patches. The
error is against dense masked attention over the same regions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from _speed import WIDTH, Row, features, full_attention, tissue
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.layers.region_attention import attend, choose
from napari_wsimil.models.layers.regions import Regions, partition
from napari_wsimil.models.querent import Querent
from napari_wsimil.synthetic.bags import planted_grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_wsimil.slides.patch_grid import PatchGrid

HEADS = 8
SIZE = 144  # places of a region
TOP = 5
METADATA = 128
CHECKED = 10_000  # patches up to which the error is measured
FRAGMENT = 4  # places over which tissue stays tissue or stays none
KINDS = 6  # of tissue, whose patches look alike
TRAINED = 20_000  # patches up to which gradients are timed


class Layer:
    """What Querent does between q, k, v and the output of its attention, random weights."""

    def __init__(self, grid: PatchGrid, x: Tensor) -> None:
        device, n = x.device, len(x)
        self.regions = partition(grid, SIZE).to(device)
        self.x = x[self.regions.order]
        generator = torch.Generator(device).manual_seed(0)
        weights = torch.randn(3, WIDTH, WIDTH, generator=generator) / math.sqrt(WIDTH)
        self.qkv = tuple((self.x @ w).view(n, HEADS, -1) for w in weights)
        shape = (3, WIDTH, METADATA)
        self.weights = torch.randn(shape, generator=generator) / math.sqrt(WIDTH)

    def choose(self) -> tuple[Tensor, Tensor]:
        """Return scores and regions of each patch, (N, TOP)."""
        ask, least, greatest = self.weights
        low, high = self.regions.extremes(self.x)
        return choose(self.x @ ask, low @ least, high @ greatest, min(TOP, len(self.regions)))

    def forward(self) -> Tensor:
        """Return (N, HEADS, WIDTH / HEADS)."""
        scores, chosen = self.choose()
        return attend(*self.qkv, self.regions.sizes, chosen, scores)

    def train(self) -> object:
        """Return the gradients of the output's sum."""
        leaves = (*self.qkv, self.weights)
        for leaf in leaves:
            leaf.requires_grad_()
        found = torch.autograd.grad(self.forward().sum(), leaves)
        for leaf in leaves:
            leaf.requires_grad_(False)
        return found


def rows(n: int) -> Iterator[Row]:
    """Yield the rows of a slide of `n` patches."""
    layer, compact = Layer(*_fragments(n)), Layer(tissue(n), features(n))
    for key, one in (("querent_forward", layer), ("querent_forward_compact", compact)):
        error = _error(one) if n <= CHECKED else None
        yield Row(key, one.forward, full_attention(n, HEADS), error)
    if n <= TRAINED:
        baseline = full_attention(n, HEADS, backward=True)
        yield Row("querent_train", layer.train, baseline, unit="s")
    torch.manual_seed(0)
    model = Querent(feature_dim=WIDTH, classes=2, width=WIDTH, heads=HEADS).eval()
    bag = Bag(features(n), grid=tissue(n))
    query = torch.tensor([n // 2])
    yield Row("querent_explain", partial(model.explain, bag, query), clock="wall")


def _fragments(n: int) -> tuple[PatchGrid, Tensor]:
    """Return a grid of `n` patches in fragments, and features mostly alike among neighbors."""
    random = np.random.default_rng(0)
    side = math.ceil(math.sqrt(2 * n))
    field = gaussian_filter(random.standard_normal((side, side)), FRAGMENT).ravel()
    cells = np.sort(np.argsort(field)[::-1][:n])  # the highest half of the places
    kinds = gaussian_filter(random.standard_normal((KINDS, side, side)), (0, 8, 8))
    kind = kinds.reshape(KINDS, -1)[:, cells].argmax(axis=0)
    x = random.standard_normal((KINDS, WIDTH))[kind] + random.standard_normal((n, WIDTH))
    grid = planted_grid(np.stack([cells % side, cells // side], axis=1))
    return grid, torch.from_numpy(x.astype(np.float32)).to(torch.get_default_device())


def _error(layer: Layer) -> float:
    _, chosen = layer.choose()
    o = layer.forward()
    pieces = torch.arange(len(o)).split(512)
    return max(_dense_difference(layer, layer.regions, chosen, o, rows) for rows in pieces)


def _dense_difference(
    layer: Layer, regions: Regions, chosen: Tensor, o: Tensor, rows: Tensor
) -> float:
    q, k, v = (x.transpose(0, 1) for x in layer.qkv)  # (HEADS, N, d)
    there = torch.zeros(len(rows), len(regions), dtype=torch.bool)
    mask = there.scatter_(1, chosen[rows], 1)[:, regions.sorted_index]
    e = (q[:, rows] @ k.mT / math.sqrt(q.shape[2])).masked_fill(~mask, -torch.inf)
    return (e.softmax(dim=2) @ v - o[rows].transpose(0, 1)).abs().max().item()
