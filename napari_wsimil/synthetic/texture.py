"""Textures of synthetic tissue: banks of stained pixels.

A texture has two planes, hematoxylin and eosin, in steps of `OD_STEP` of optical density.
Banks are periodic and stored with a margin, so that any block is a plain slice of a bank.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import fft

from napari_wsimil.synthetic.objects import (
    DEBRIS,
    FIBROBLAST,
    GHOST,
    LYMPHOCYTE,
    OD_STEP,
    PLEOMORPHIC,
    SMALL_BLUE,
    lay,
    nucleus_stamp,
    soft_step,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.synthetic.objects import Nucleus, Plane, Stamp

#: Period of a bank in pixels.
PERIOD = 640
#: Pixels stored beyond the period, the maximum side of a block.
MARGIN = 512

_BANK_SEED = 20_131


class Bank(NamedTuple):
    """Periodic stain planes of a texture.

    `planes` are (2, PERIOD + MARGIN, PERIOD + MARGIN) in OD steps, hematoxylin first.
    """

    planes: NDArray[np.uint8]

    def cut(self, x: int, y: int, width: int, height: int, flip: int) -> NDArray[np.uint8]:
        """Return a view (2, height, width) from (x, y) on.

        Bit 0 of `flip` reverses the bank's rows, bit 1 its columns.
        """
        planes = self.planes[:, :: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]
        x, y = x % PERIOD, y % PERIOD
        return planes[:, y : y + height, x : x + width]


def smooth_noise(
    rng: np.random.Generator, across: float, along: float | None = None, angle: float = 0.0
) -> Plane:
    """Draw periodic noise (PERIOD, PERIOD) of mean 0, deviation 1.

    Parameters
    ----------
    across, along
        Correlation lengths in pixels; isotropic if `along` is None.
    angle
        Direction of `along` in radians.
    """
    along = across if along is None else along
    white = fft.rfft2(rng.standard_normal((PERIOD, PERIOD), dtype=np.float32))
    fy = fft.fftfreq(PERIOD).astype(np.float32)[:, None]
    fx = fft.rfftfreq(PERIOD).astype(np.float32)[None]
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = fy * np.cos(angle) - fx * np.sin(angle)
    white *= np.exp(-2 * np.pi**2 * ((u * along) ** 2 + (v * across) ** 2))
    noise = fft.irfft2(white, s=(PERIOD, PERIOD))
    noise -= noise.mean()
    return np.asarray(noise / noise.std(), np.float32)


def scattered(rng: np.random.Generator, spacing: float, keep: float) -> NDArray[np.intp]:
    """Draw periodic positions (n, 2) of a jittered hexagonal lattice.

    `spacing` is in pixels; `keep` is the share of positions that remain.
    """
    count = max(1, round(PERIOD / spacing))
    step = PERIOD / count
    rows, columns = np.mgrid[:count, :count]
    x = (columns + 0.5 * (rows % 2)) * step
    points = np.stack([x.ravel(), rows.ravel() * step], 1)
    points += rng.normal(0, 0.22 * step, points.shape)
    points = points[rng.random(len(points)) < keep]
    return np.asarray(rng.permutation(points) % PERIOD, np.intp)


def compose(planes: Plane, stamp: Stamp, x: int, y: int) -> None:
    """Blend a stamp, centered on (x, y), over periodic planes.

    Changes `planes` in place.
    """
    reach = stamp.alpha.shape[0] // 2 + 1
    for column in (x - PERIOD, x, x + PERIOD):
        for row in (y - PERIOD, y, y + PERIOD):
            if -reach < column < PERIOD + reach and -reach < row < PERIOD + reach:
                lay(planes, stamp, column, row)


def scatter(
    planes: Plane, rng: np.random.Generator, kind: Nucleus, mpp: float, points: NDArray[np.intp]
) -> None:
    """Blend nuclei of one kind at points of periodic planes.

    Changes `planes` in place.
    """
    stamps = [nucleus_stamp(rng, kind, mpp) for _ in range(min(len(points), 48))]
    chosen = rng.integers(0, max(1, len(stamps)), len(points))
    for (x, y), index in zip(points.tolist(), chosen.tolist(), strict=True):
        compose(planes, stamps[index], x, y)


def _bend(rng: np.random.Generator, plane: Plane, scale: float, shift: float) -> Plane:
    """Return a periodic plane, displaced by smooth noise.

    The noise has correlation length `scale` and deviation `shift`, both in pixels.
    """
    rows, columns = np.arange(PERIOD)[:, None], np.arange(PERIOD)
    dy = np.rint(shift * smooth_noise(rng, scale)).astype(int)
    dx = np.rint(shift * smooth_noise(rng, scale)).astype(int)
    return np.asarray(plane[(rows + dy) % PERIOD, (columns + dx) % PERIOD], np.float32)


def _fibers(rng: np.random.Generator, mpp: float) -> Plane:
    """Draw wavy bundles of fibers, standard deviation about 1."""
    total = np.zeros((PERIOD, PERIOD), np.float32)
    weight = np.zeros_like(total)
    for angle in np.arange(3) * np.pi / 3 + rng.uniform(0, 1):
        part = np.exp(2.5 * smooth_noise(rng, 38 / mpp))
        fine = smooth_noise(rng, 0.9 / mpp, 9 / mpp, angle)
        coarse = smooth_noise(rng, 2.6 / mpp, 16 / mpp, angle)
        total += part * (0.6 * fine + 0.8 * coarse)
        weight += part
    return _bend(rng, total / weight, 9 / mpp, 4.5 / mpp)


def _planes(h: Plane, e: Plane) -> Plane:
    return np.asarray(np.stack([h, e]) / OD_STEP, np.float32)


def _stroma(rng: np.random.Generator, mpp: float) -> Plane:
    fibers = _fibers(rng, mpp)
    loose = smooth_noise(rng, 16 / mpp)
    e = 0.32 + 0.075 * fibers + 0.045 * loose
    gaps = soft_step(-fibers - 1.35 + 0.5 * loose, 0.35)
    planes = _planes(0.035 + 0.012 * fibers, e * (1 - 0.85 * gaps))
    scatter(planes, rng, FIBROBLAST, mpp, scattered(rng, 24 / mpp, 0.75))
    scatter(planes, rng, LYMPHOCYTE, mpp, scattered(rng, 34 / mpp, 0.35))
    return planes


def _lymphoid(rng: np.random.Generator, mpp: float) -> Plane:
    grain = smooth_noise(rng, 2 / mpp)
    planes = _planes(0.10 + 0.03 * grain, 0.20 + 0.05 * grain)
    scatter(planes, rng, LYMPHOCYTE, mpp, scattered(rng, 7.2 / mpp, 0.85))
    return planes


def _pleomorphic(rng: np.random.Generator, mpp: float) -> Plane:
    fibers = smooth_noise(rng, 1.2 / mpp, 8 / mpp, 0.5)
    planes = _planes(0.06 + 0.01 * fibers, 0.34 + 0.07 * fibers)
    scatter(planes, rng, LYMPHOCYTE, mpp, scattered(rng, 40 / mpp, 0.5))
    scatter(planes, rng, PLEOMORPHIC, mpp, scattered(rng, 16.5 / mpp, 0.93))
    grain = smooth_noise(rng, 0.8 / mpp)
    return planes * (1 + 0.06 * grain)


def _small_blue(rng: np.random.Generator, mpp: float) -> Plane:
    grain = smooth_noise(rng, 1.5 / mpp)
    planes = _planes(0.16 + 0.04 * grain, 0.16 + 0.03 * grain)
    scatter(planes, rng, SMALL_BLUE, mpp, scattered(rng, 7.0 / mpp, 0.97))
    return planes


def _necrotic_mucin(rng: np.random.Generator, mpp: float) -> Plane:
    wisps = 1.4 * _bend(rng, smooth_noise(rng, 1.4 / mpp, 14 / mpp, 0.7), 14 / mpp, 11 / mpp)
    clouds = smooth_noise(rng, 20 / mpp)
    granules = np.abs(smooth_noise(rng, 0.7 / mpp)) * soft_step(clouds - 0.5, 0.4)
    planes = _planes(0.11 + 0.022 * wisps + 0.03 * clouds, 0.075 + 0.015 * wisps + 0.16 * granules)
    scatter(planes, rng, GHOST, mpp, scattered(rng, 38 / mpp, 0.5))
    scatter(planes, rng, DEBRIS, mpp, scattered(rng, 17 / mpp, 0.35))
    return planes


_PAINTERS = {
    "stroma": _stroma,
    "lymphoid": _lymphoid,
    "A": _pleomorphic,
    "B": _small_blue,
    "C": _necrotic_mucin,
}


def _to_bank(planes: Plane) -> Bank:
    """Return periodic planes as a bank, extended by `MARGIN`."""
    steps = np.clip(planes + 0.5, 0, 255).astype(np.uint8)
    return Bank(np.pad(steps, ((0, 0), (0, MARGIN), (0, MARGIN)), mode="wrap"))


@lru_cache(maxsize=16)
def bank(kind: str, mpp: float) -> Bank:
    """Return the texture of one kind of tissue.

    The texture is the same on every call.

    Parameters
    ----------
    kind
        "stroma", "lymphoid", or a lesion: "A" (large pleomorphic nuclei), "B" (sheets of
        small blue cells), "C" (mucin with necrotic debris).
    mpp
        µm per pixel.
    """
    rng = np.random.default_rng([_BANK_SEED, *kind.encode()])
    return _to_bank(_PAINTERS[kind](rng, mpp))


@lru_cache(maxsize=8)
def warp(mpp: float) -> NDArray[np.int16]:
    """Return periodic displacements for irregular borders.

    (2, n, n) int16 in pixels along x and y, with n = PERIOD + MARGIN.
    """
    rng = np.random.default_rng(_BANK_SEED)
    planes = [
        28 / mpp * smooth_noise(rng, 30 / mpp)
        + 5 / mpp * smooth_noise(rng, 5 / mpp)
        + 1.5 / mpp * smooth_noise(rng, 1.2 / mpp)
        for _ in range(2)
    ]
    padded = np.pad(np.stack(planes), ((0, 0), (0, MARGIN), (0, MARGIN)), mode="wrap")
    return padded.astype(np.int16)
