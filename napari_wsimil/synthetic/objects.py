"""Small objects of synthetic tissue: nuclei and glands as stamps."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane: TypeAlias = NDArray[np.float32]

#: Optical density of one step of a stain plane.
OD_STEP = 1.7 / 255

_SEED = 20_132


class Stamp(NamedTuple):
    """Small object to blend over a block.

    Attributes
    ----------
    planes
        (2, n, n), hematoxylin and eosin in OD steps.
    alpha
        (n, n), opacity 0 to 1.
    """

    planes: Plane
    alpha: Plane


class Nucleus(NamedTuple):
    """Appearance of the nuclei of one cell type.

    Lengths are in µm, densities in OD. `wobble` is the irregularity of the outline, `rim` the
    extra density of the membrane, `spots` the number of nucleoli, `clumps` the contrast of
    chromatin.
    """

    length: float
    width: float
    density: float
    spread: float = 0.2
    wobble: float = 0.08
    rim: float = 0.0
    spots: int = 0
    clumps: float = 0.15
    halo: float = 0.0
    halo_density: tuple[float, float] = (0.0, 0.0)


FIBROBLAST = Nucleus(9.0, 2.6, 0.85, 0.3, 0.05)
LYMPHOCYTE = Nucleus(5.6, 5.2, 1.0, 0.12, 0.05, clumps=0.22)
PLEOMORPHIC = Nucleus(
    13.0, 9.5, 0.62, 0.4, 0.16, rim=0.3, spots=2, clumps=0.25, halo=2.1, halo_density=(0.20, 0.34)
)
SMALL_BLUE = Nucleus(7.2, 5.8, 1.02, 0.18, 0.10, clumps=0.25)
DEBRIS = Nucleus(2.8, 2.2, 1.0, 0.6, 0.2, clumps=0.1)
GHOST = Nucleus(8.0, 7.0, 0.16, 0.3, 0.15, halo=1.8, halo_density=(0.05, 0.30))


def soft_step(values: Plane, width: float) -> Plane:
    """Return a smooth step: 0 at -width, 1 at +width."""
    ramp = np.clip(values / (2 * width) + 0.5, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)


def lay(stains: Plane, stamp: Stamp, x: int, y: int, flip: int = 0) -> None:
    """Blend a stamp, centered on (x, y), over a block.

    Changes `stains` (2, rows, columns) in place. Parts outside the block are clipped. Bit 0
    of `flip` reverses the stamp's rows, bit 1 its columns.
    """
    mirror = (slice(None, None, -1 if flip & 1 else 1), slice(None, None, -1 if flip & 2 else 1))
    side = stamp.alpha.shape[0]
    top, left = y - side // 2, x - side // 2
    rows = slice(max(top, 0), min(top + side, stains.shape[1]))
    columns = slice(max(left, 0), min(left + side, stains.shape[2]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    alpha = stamp.alpha[mirror][part]
    target = stains[:, rows, columns]
    target += (stamp.planes[:, *mirror][:, *part] - target) * alpha


def nucleus_stamp(rng: np.random.Generator, kind: Nucleus, mpp: float) -> Stamp:
    """Draw a nucleus, with any cytoplasm, at a random angle."""
    scale = float(np.exp(rng.normal(0, kind.spread * 0.6)))
    a, b = kind.length * scale / 2 / mpp, kind.width * scale / 2 / mpp
    reach = int(np.ceil(a * max(1.5, kind.halo * 1.25) + 1.5))
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u, v = xx * np.cos(turn) + yy * np.sin(turn), yy * np.cos(turn) - xx * np.sin(turn)
    rho = np.hypot(u / a, v / b)
    theta = np.arctan2(v, u)
    for k in (2, 3, 5):
        rho = rho * (
            1 + rng.normal(0, kind.wobble * 1.4 / k) * np.cos(k * theta + rng.uniform(0, 6.3))
        )
    inside = soft_step(1 - rho, 0.9 / max(b, 1.0))
    density = kind.density * float(np.exp(rng.normal(0, 0.16)))
    hematoxylin = density * _chromatin(rng, kind, rho, u / a, v / b)
    halo = soft_step(kind.halo - rho, 0.35) * 0.85 if kind.halo else np.zeros_like(rho)
    h = inside * hematoxylin + (1 - inside) * kind.halo_density[0]
    e = inside * 0.16 + (1 - inside) * kind.halo_density[1]
    planes = np.stack([h, e]) / OD_STEP
    return Stamp(planes.astype(np.float32), np.maximum(inside, halo).astype(np.float32))


def _chromatin(rng: np.random.Generator, kind: Nucleus, rho: Plane, u: Plane, v: Plane) -> Plane:
    """Draw relative density in a nucleus: clumps, membrane, nucleoli."""
    density = np.ones_like(rho)
    for _ in range(7):
        cu, cv = rng.uniform(-0.8, 0.8, 2)
        size = rng.uniform(0.18, 0.4)
        bump = np.exp(-((u - cu) ** 2 + (v - cv) ** 2) / size**2)
        density += rng.normal(0, 2 * kind.clumps) * bump
    density += kind.rim * 2 * np.exp(-(((rho - 0.9) / 0.16) ** 2))
    for _ in range(kind.spots):
        cu, cv = rng.uniform(-0.45, 0.45, 2)
        density += 0.9 * np.exp(-((u - cu) ** 2 + (v - cv) ** 2) / 0.17**2)
    return np.asarray(np.clip(density, 0.35, 2.2), np.float32)


#: Number of gland shapes.
_GLANDS = 24


@lru_cache(maxsize=8)
def glands(mpp: float) -> tuple[Stamp, ...]:
    """Draw glands: white lumen in a ring of columnar cells."""
    rng = np.random.default_rng(_SEED)
    return tuple(_gland(rng, mpp) for _ in range(_GLANDS))


def _gland(rng: np.random.Generator, mpp: float) -> Stamp:
    radius, ratio = rng.uniform(25, 40) / mpp, rng.uniform(0.62, 1.0)
    reach = int(radius * 1.3 + 3)
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u, v = xx * np.cos(turn) + yy * np.sin(turn), (yy * np.cos(turn) - xx * np.sin(turn)) / ratio
    theta, distance = np.arctan2(v, u), np.hypot(u, v)
    outline = 1 + sum(
        rng.normal(0, 0.09 / k**0.6) * np.cos(k * theta + rng.uniform(0, 6.3)) for k in (2, 3, 4, 7)
    )
    depth = radius * outline - distance  # pixels inside the basal membrane
    thick = rng.uniform(13, 19) / mpp * ratio**0.5
    frayed = thick * (1 + 0.10 * np.cos(rng.integers(9, 17) * theta + rng.uniform(0, 6.3)))
    lumen = soft_step(depth - frayed, 1.6 / mpp)
    apical = np.clip(depth / thick, 0, 1)
    mucous = 0.5 + 0.5 * np.cos(rng.integers(14, 24) * theta + 3 * np.sin(3 * theta))
    pale = 0.55 * mucous * soft_step(apical - 0.55, 0.25)
    h = (0.13 - 0.05 * apical) * (1 - 0.5 * pale)
    e = (0.32 - 0.08 * apical) * (1 - pale) + 0.1 * np.exp(-(((apical - 0.95) / 0.06) ** 2))
    nuclei, density = _palisade(rng, theta, depth, radius, thick, mpp)
    h = (h + nuclei * (density - h)) * (1 - lumen) + 0.012 * lumen
    e = (e + nuclei * (0.16 - e)) * (1 - lumen) + 0.012 * lumen
    planes = np.asarray(np.stack([h, e]) / OD_STEP, np.float32)
    return Stamp(planes, soft_step(depth, 0.7 / mpp))


def _palisade(
    rng: np.random.Generator, theta: Plane, depth: Plane, radius: float, thick: float, mpp: float
) -> tuple[Plane, Plane]:
    """Draw a row of nuclei along the basal membrane.

    Returns cover (0 to 1) and density of the nuclei per pixel.
    """
    count = int(2 * np.pi * radius / (5.4 / mpp))
    place = (theta / (2 * np.pi) + 0.5) * count
    index = np.floor(place).astype(int) % count
    center = rng.uniform(0.24, 0.46, count)[index] * thick
    length = rng.uniform(0.26, 0.38, count)[index] * thick
    sideways = (place - np.floor(place) - rng.uniform(0.4, 0.6, count)[index]) / 0.43
    rho = np.hypot(sideways, (depth - center) / length)
    mottled = 1 + 0.25 * np.cos(depth * 2.4 * mpp + rng.uniform(0, 6, count)[index])
    density = rng.normal(0.80, 0.12, count)[index] * mottled
    return soft_step(1 - rho, 0.28), np.asarray(density, np.float32)
