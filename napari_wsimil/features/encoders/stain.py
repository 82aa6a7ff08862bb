"""Built-in encoder: handcrafted stain and texture features.

It needs no download and no training. Color deconvolution (Ruifrok and Johnston 2001)
separates a patch into maps of hematoxylin, eosin and residual. Their features are

- stain: mean, spread and quantiles of each map, and correlations between stains;
- patterns: rotation-invariant uniform local binary patterns of hematoxylin at three
  scales (Ojala, Pietikäinen and Mäenpää 2002);
- filters: responses of blob, line and edge filters at three scales, and their dependence on
  direction;
- grains: mean loss of hematoxylin through openings and closings of growing size, which
  measures nuclei and the gaps between them (Maragos 1989);
- layout: variation of stain between blocks of growing size.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsimil.features.encoders.base import EncoderCard, PatchEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Increment on every change of a formula: features of two revisions must not be mixed.
REVISION = 1
#: Optical densities of hematoxylin, eosin and DAB in red, green and blue (Ruifrok).
STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PATTERN_SCALES = (1, 2, 4)
FILTER_SCALES = (2, 4, 8)
ORIENTATIONS = 4
#: Standard deviation of the filters' Gaussian, in pixels of their scale.
SIGMA = 1.0
GRAIN_SCALES = (2, 3, 4, 5)
BLOCKS = (7, 14, 28)
#: Least patch side in pixels, required by the coarsest scale.
SMALLEST = 56
#: Center and spread of each family over H&E, to scale features to about unit size.
STANDARD = {
    "stain": (0.2, 0.15),
    "patterns": (0.1, 0.015),
    "filters": (-4.5, 0.5),
    "grains": (-2.5, 0.5),
    "layout": (0.1, 0.05),
}


class StainTexture(PatchEncoder):
    """Stain and texture features of square patches.

    Patches need sides of at least `SMALLEST` pixels.
    """

    def __init__(self) -> None:
        self._unmix = torch.linalg.inv(F.normalize(torch.tensor(STAINS), dim=1))
        self._filters = _filter_bank()
        card = EncoderCard(
            name="stain-texture",
            sha256=_definition(),
            dim=len(self._describe(torch.zeros(SMALLEST, SMALLEST, 3, dtype=torch.uint8))),
            pixels=224,
            mpp=0.5,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            license="part of napari-wsimil, BSD-3-Clause",
        )
        super().__init__(card, largest_batch=8)

    def check(self, patches: Tensor) -> None:
        """Raise ValueError unless patches are (B, S, S, 3) uint8.

        S must be at least `SMALLEST`.
        """
        shape = tuple(patches.shape)
        square = patches.ndim == 4 and shape[1] == shape[2] >= SMALLEST and shape[3] == 3
        if patches.dtype != torch.uint8 or not square:
            raise ValueError(
                f"stain-texture takes uint8 patches of shape (B, S, S, 3) with S at least "
                f"{SMALLEST}, not {patches.dtype} of {shape}"
            )

    def encode(self, patches: Tensor) -> Tensor:
        """Return (B, D) features.

        Each patch is encoded alone, so features do not depend on the batch.
        """
        with _one_thread():
            return torch.stack([self._describe(patch) for patch in patches])

    def _describe(self, patch: Tensor) -> Tensor:
        stains = self._separate(patch)  # (3, H, W)
        families = {
            "stain": _stain(stains),
            "patterns": torch.cat([_patterns(m) for m in _scales(stains[0], PATTERN_SCALES)]),
            "filters": self._filtered(stains[:2]),
            "grains": _grains(stains[0]),
            "layout": _layout(stains[:2]),
        }
        return torch.cat(
            [(values - STANDARD[name][0]) / STANDARD[name][1] for name, values in families.items()]
        )

    def _separate(self, patch: Tensor) -> Tensor:
        """Return (3, H, W) amounts of hematoxylin, eosin and residual."""
        density = -torch.log10((patch.permute(2, 0, 1).float() + 1) / 256)
        red, green, blue = density
        r, g, b = self._unmix.tolist()
        return torch.stack([red * r[s] + green * g[s] + blue * b[s] for s in range(3)])

    def _filtered(self, stains: Tensor) -> Tensor:
        """Return mean strength and directional spread of every filter."""
        statistics = []
        for scale in FILTER_SCALES:
            maps = F.avg_pool2d(stains[:, None], scale)
            response = F.conv2d(maps, self._filters)  # (2, 1 + 2 · ORIENTATIONS, H, W)
            blobs = response[:, 0]
            strength = response[:, 1:].abs().mean(dim=(2, 3)).view(2, 2, ORIENTATIONS)
            statistics += [
                blobs.clamp(min=0).mean(dim=(1, 2)),
                blobs.clamp(max=0).mean(dim=(1, 2)).neg(),
                strength.mean(dim=2).flatten(),
                strength.amax(dim=2).flatten() - strength.amin(dim=2).flatten(),
            ]
        return torch.log(torch.cat(statistics) + 1e-3)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread.

    On maps this small, synchronizing threads costs far more than it gains.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stain(stains: Tensor) -> Tensor:
    """Return mean, spread and quantiles per stain, and stain correlations."""
    flat = stains.flatten(1)
    ordered = stains[:, ::4, ::4].flatten(1).sort(dim=1).values
    at = torch.tensor([round(q * (ordered.shape[1] - 1)) for q in QUANTILES])
    centered = flat - flat.mean(dim=1, keepdim=True)
    spread = centered.square().mean(dim=1).sqrt()
    pairs = ((0, 1), (0, 2), (1, 2))
    together = torch.stack(
        [(centered[a] * centered[b]).mean() / (spread[a] * spread[b] + 1e-4) for a, b in pairs]
    )
    return torch.cat([flat.mean(dim=1), spread, ordered[:, at].flatten(), together])


def _scales(map_: Tensor, factors: tuple[int, ...]) -> list[Tensor]:
    return [F.avg_pool2d(map_[None, None], factor)[0, 0] for factor in factors]


def _patterns(map_: Tensor) -> Tensor:
    """Return (10,) shares of rotation-invariant uniform 8-neighbor patterns."""
    center = map_[1:-1, 1:-1]
    height, width = center.shape
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    above = [(map_[y : y + height, x : x + width] > center).byte() for y, x in ring]
    count, turns = torch.zeros_like(above[0]), torch.zeros_like(above[0])
    for a, b in zip(above, above[1:] + above[:1], strict=True):
        count += a
        turns += a ^ b
    kind = torch.where(turns <= 2, count, 9)
    return torch.bincount(kind.flatten().int(), minlength=10).float() / kind.numel()


def _grains(map_: Tensor) -> Tensor:
    """Return mean losses by opening and closing at each scale."""
    losses = []
    for level in _scales(map_, GRAIN_SCALES):
        inner = level[4:-4, 4:-4]
        losses += [(inner - _opening(level)).mean(), (-_opening(-level) - inner).mean()]
    return torch.log(torch.stack(losses).clamp(min=0) + 1e-3)


def _opening(map_: Tensor) -> Tensor:
    """Return the opening by a square of 5 pixels.

    The result is 4 pixels smaller at every edge.
    """
    return _dilation(-_dilation(-map_, 2), 2)


def _dilation(map_: Tensor, radius: int) -> Tensor:
    for _ in range(radius):
        tall = torch.maximum(torch.maximum(map_[:-2], map_[1:-1]), map_[2:])
        map_ = torch.maximum(torch.maximum(tall[:, :-2], tall[:, 1:-1]), tall[:, 2:])
    return map_


def _layout(stains: Tensor) -> Tensor:
    """Return the spread of stain between blocks of each size."""
    return torch.cat(
        [
            F.avg_pool2d(stains[:, None], block).flatten(1).std(dim=1, correction=0)
            for block in BLOCKS
        ]
    )


def _filter_bank() -> Tensor:
    """Return the filters: a blob, then lines, then edges.

    The shape is (1 + 2 · ORIENTATIONS, 1, 5, 5).
    """
    y, x = torch.meshgrid(torch.arange(-2.0, 3), torch.arange(-2.0, 3), indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / (2 * SIGMA**2))
    filters = [bell * (1 - (x**2 + y**2) / (2 * SIGMA**2))]
    for phase in (0.0, math.pi / 2):
        for k in range(ORIENTATIONS):
            angle = k * math.pi / ORIENTATIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            filters.append(bell * torch.cos(2 * math.pi * along / 4 + phase))
    bank = torch.stack(filters)
    bank = bank - bank.mean(dim=(1, 2), keepdim=True)
    return (bank / bank.abs().sum(dim=(1, 2), keepdim=True))[:, None]


def _definition() -> str:
    """Return the hash of the revision and of all constants."""
    numbers = (STAINS, QUANTILES, PATTERN_SCALES, FILTER_SCALES, ORIENTATIONS, SIGMA)
    definition = (REVISION, *numbers, GRAIN_SCALES, BLOCKS, STANDARD)
    return hashlib.sha256(repr(definition).encode()).hexdigest()
