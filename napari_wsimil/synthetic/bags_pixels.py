"""Synthetic slides of small painted patches with known lesions."""

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
MOST = 14  # maximum number of nuclei in a patch
MANY_SMALL, FEW_LARGE = (9, MOST), (3, 4)  # nuclei of a decoy and of a lesion
SPARSE = (3, 8)  # nuclei of ordinary tissue
SMALL, LARGE = (1.7, 2.4), (2.8, 3.5)  # radius in pixels


@dataclass(frozen=True)
class Nuclei:
    """Recipe of painted slides, every second with a lesion.

    Ordinary tissue has few small nuclei, decoys in every slide have many small ones, and a
    lesion has few large ones: darker than ordinary tissue, less dark than decoys.

    Attributes
    ----------
    patches
        Lowest and highest number of patches of a slide.
    pixels
        S, side of a patch in pixels.
    share
        Lowest and highest lesion share of a positive slide.
    decoys
        Lowest and highest decoy share of any slide.
    stain
        Standard deviation of the color shift of a slide, per color, on a scale of 0 to 1.
    noise
        Standard deviation of a pixel's color, on the same scale.
    """

    patches: tuple[int, int] = (80, 120)
    pixels: int = 24
    share: tuple[float, float] = (0.04, 0.08)
    decoys: tuple[float, float] = (0.05, 0.10)
    stain: float = 0.04
    noise: float = 0.05


@dataclass(frozen=True, eq=False)
class PlantedPixels:
    """Synthetic pixel slide with its ground truth.

    Attributes
    ----------
    slide
        Patches as pixels.
    target
        Class: 1 if the slide has a lesion, else 0.
    truth
        (N,) bool, True for lesion patches.
    """

    slide: PixelSlide
    target: int
    truth: NDArray[np.bool_]


def plant_pixels(recipe: Nuclei, count: int, seed: int) -> tuple[PlantedPixels, ...]:
    """Draw `count` slides, every second one with a lesion."""
    return tuple(
        _make_slide(recipe, np.random.default_rng([seed, number]), f"{seed}-{number}", number % 2)
        for number in range(count)
    )


def _make_slide(recipe: Nuclei, rng: Generator, name: str, target: int) -> PlantedPixels:
    cells = tissue_cells(int(rng.integers(*recipe.patches, endpoint=True)), rng)
    decoy = _clusters(cells, recipe.decoys, rng)
    lesion = _clusters(cells, recipe.share, rng) & (target == 1)
    patches = _paint(recipe, decoy & ~lesion, lesion, rng)
    slide = PixelSlide(name, len(cells), lambda index: patches[index], planted_grid(cells))
    return PlantedPixels(slide, target, lesion)


def _clusters(
    cells: NDArray[np.int64], share: tuple[float, float], rng: Generator
) -> NDArray[np.bool_]:
    count = max(1, round(len(cells) * rng.uniform(*share)))
    return blobs(cells, count, min(count, int(rng.integers(1, 3))), rng)


def _paint(
    recipe: Nuclei, decoy: NDArray[np.bool_], lesion: NDArray[np.bool_], rng: Generator
) -> NDArray[np.uint8]:
    """Paint patches with nuclei, (N, S, S, 3)."""
    cover = _nuclei(recipe.pixels, decoy, lesion, rng)[..., None]  # (N, S, S, 1)
    stain = rng.normal(0, recipe.stain, (2, 3))
    light, dark = (np.array((EOSIN, HEMATOXYLIN)) + stain).astype(np.float32)
    color = light + cover * (dark - light)  # (N, S, S, 3)
    color += np.float32(recipe.noise) * rng.standard_normal(color.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = (255 * color.clip(0, 1)).round().astype(np.uint8)
    return pixels


def _nuclei(
    side: int, decoy: NDArray[np.bool_], lesion: NDArray[np.bool_], rng: Generator
) -> NDArray[np.float32]:
    """Return the cover of pixels by nuclei, (N, S, S).

    At most `MOST` nuclei per patch; cover is 0 to 1.
    """
    n = len(lesion)
    count = np.where(decoy, _draw_counts(rng, n, MANY_SMALL), _draw_counts(rng, n, SPARSE))
    count = np.where(lesion, _draw_counts(rng, n, FEW_LARGE), count)
    small, large = (rng.uniform(*limits, (n, MOST)) for limits in (SMALL, LARGE))
    radius = np.where(lesion[:, None], large, small)
    cover = np.zeros((n, side, side), np.float32)
    for number, center in enumerate(rng.uniform(0, side, (MOST, n, 2))):
        present = number < count
        disk = _disks(side, center[present], radius[present, number])
        cover[present] = np.maximum(cover[present], disk)
    return cover


def _disks(
    side: int, center: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Draw disks (n, S, S) with a soft edge.

    Centers are (n, 2) as (x, y), radii (n,), both in pixels; the edge is one pixel wide.
    """
    x, y = (np.arange(side) + 0.5 - center.T[:, :, None]).astype(np.float32)  # (n, S) each
    distance = np.sqrt((y**2)[:, :, None] + (x**2)[:, None, :])
    edge = radius.astype(np.float32)[:, None, None] + np.float32(0.5)
    disks: NDArray[np.float32] = (edge - distance).clip(0, 1)
    return disks


def _draw_counts(rng: Generator, count: int, range_: tuple[int, int]) -> NDArray[np.int64]:
    return rng.integers(*range_, size=count, endpoint=True)
