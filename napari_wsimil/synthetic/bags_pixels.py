"""Planted pixels: slides of small painted patches with lesions whose places are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.pixel_slide import PixelSlide
from napari_wsimil.synthetic.bags import blobs, planted_grid, tissue_cells

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

EOSIN = (0.86, 0.66, 0.76)  # color of stroma, 0 to 1
HEMATOXYLIN = (0.36, 0.26, 0.52)  # color of a nucleus
MOST = 14  # nuclei in a patch
MANY_SMALL, FEW_LARGE = (9, MOST), (3, 4)  # nuclei of a decoy and of a lesion
SPARSE = (3, 8)  # nuclei of ordinary tissue
SMALL, LARGE = (1.7, 2.4), (2.8, 3.5)  # radius in pixels


@dataclass(frozen=True)
class Nuclei:
    """A world of painted slides, a lesion in every second one.

    Ordinary tissue has few small nuclei, decoys in every slide have many small ones, and a
    lesion has few large ones: darker than ordinary tissue, less dark than decoys.

    Attributes
    ----------
    patches
        Fewest and most patches of a slide.
    pixels
        S, the side of a patch.
    share, decoys
        Least and most share of a positive slide that is lesion; of any slide that is decoy.
    stain
        Standard deviation of a slide's own shift of each color, 0 to 1.
    noise
        Standard deviation of a pixel.
    """

    patches: tuple[int, int] = (80, 120)
    pixels: int = 24
    share: tuple[float, float] = (0.04, 0.08)
    decoys: tuple[float, float] = (0.05, 0.10)
    stain: float = 0.04
    noise: float = 0.05


@dataclass(frozen=True, eq=False)
class PlantedPixels:
    """A slide, its class (1 if it has a lesion), and which patches are lesion ((N,) bool)."""

    slide: PixelSlide
    target: int
    truth: NDArray[np.bool_]


def plant_pixels(recipe: Nuclei, count: int, seed: int) -> tuple[PlantedPixels, ...]:
    """Return `count` slides, every second one with a lesion, drawn by `seed`."""
    return tuple(
        _plant(recipe, np.random.default_rng([seed, number]), f"{seed}-{number}", number % 2)
        for number in range(count)
    )


def _plant(recipe: Nuclei, rng: Generator, name: str, target: int) -> PlantedPixels:
    cells = tissue_cells(int(rng.integers(*recipe.patches, endpoint=True)), rng)
    decoy = _some(cells, recipe.decoys, rng)
    lesion = _some(cells, recipe.share, rng) & (target == 1)
    patches = _paint(recipe, decoy & ~lesion, lesion, rng)
    slide = PixelSlide(name, len(cells), lambda index: patches[index], planted_grid(cells))
    return PlantedPixels(slide, target, lesion)


def _some(
    cells: NDArray[np.int64], share: tuple[float, float], rng: Generator
) -> NDArray[np.bool_]:
    count = max(1, round(len(cells) * rng.uniform(*share)))
    return blobs(cells, count, min(count, int(rng.integers(1, 3))), rng)


def _paint(
    recipe: Nuclei, decoy: NDArray[np.bool_], lesion: NDArray[np.bool_], rng: Generator
) -> NDArray[np.uint8]:
    """Return (N, S, S, 3) patches of their kinds."""
    covered = _nuclei(recipe.pixels, decoy, lesion, rng)[..., None]  # (N, S, S, 1)
    stain = rng.normal(0, recipe.stain, (2, 3))
    light, dark = (np.array((EOSIN, HEMATOXYLIN)) + stain).astype(np.float32)
    color = light + covered * (dark - light)  # (N, S, S, 3)
    color += np.float32(recipe.noise) * rng.standard_normal(color.shape, dtype=np.float32)
    painted: NDArray[np.uint8] = (255 * color.clip(0, 1)).round().astype(np.uint8)
    return painted


def _nuclei(
    side: int, decoy: NDArray[np.bool_], lesion: NDArray[np.bool_], rng: Generator
) -> NDArray[np.float32]:
    """Return (N, S, S), how much of each pixel nuclei cover; at most `MOST` nuclei a patch."""
    n = len(lesion)
    count = np.where(decoy, _drawn(rng, n, MANY_SMALL), _drawn(rng, n, SPARSE))
    count = np.where(lesion, _drawn(rng, n, FEW_LARGE), count)
    small, large = (rng.uniform(*limits, (n, MOST)) for limits in (SMALL, LARGE))
    radius = np.where(lesion[:, None], large, small)
    covered = np.zeros((n, side, side), np.float32)
    for number, center in enumerate(rng.uniform(0, side, (MOST, n, 2))):
        has = number < count
        disk = _disks(side, center[has], radius[has, number])
        covered[has] = np.maximum(covered[has], disk)
    return covered


def _disks(
    side: int, center: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return (n, S, S) disks with an edge one pixel soft, centers (n, 2) as (x, y)."""
    x, y = (np.arange(side) + 0.5 - center.T[:, :, None]).astype(np.float32)  # (n, S) each
    distance = np.sqrt((y**2)[:, :, None] + (x**2)[:, None, :])
    edge = radius.astype(np.float32)[:, None, None] + np.float32(0.5)
    disks: NDArray[np.float32] = (edge - distance).clip(0, 1)
    return disks


def _drawn(rng: Generator, count: int, range_: tuple[int, int]) -> NDArray[np.int64]:
    return rng.integers(*range_, size=count, endpoint=True)
