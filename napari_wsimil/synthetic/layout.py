"""Layout of a synthetic slide: tissue, lesions and artifacts.

A layout consists of smooth fields on a coarse lattice of nodes; node (i, j) is the center of a
square of `pitch` level-0 pixels. A field is positive inside its object and negative outside.
Painted pixels and ground truth use the same zero lines of the same fields, so they agree
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_wsimil.synthetic.recipe import SlideRecipe

    Plane: TypeAlias = NDArray[np.float32]

#: Maximum side of the lattice in nodes; small slides have one node per 16 pixels.
NODES = 1536
FINEST_PITCH = 16


@dataclass(frozen=True)
class Layout:
    """Fields of one slide, each (rows, columns) float32.

    Attributes
    ----------
    pitch
        Level-0 pixels between nodes.
    tissue, glands, lymphoid, fold, ink
        Depth in level-0 pixels inside the object, negative outside.
    lesions
        The same for each kind of lesion.
    thickness
        Relative stain uptake, around 1.
    """

    pitch: int
    tissue: Plane
    glands: Plane
    lymphoid: Plane
    fold: Plane
    ink: Plane
    lesions: dict[str, Plane]
    thickness: Plane


def lay_out(recipe: SlideRecipe) -> Layout:
    """Draw the layout of a recipe, determined by its seed."""
    longest = max(recipe.width, recipe.height)
    pitch = max(FINEST_PITCH, -(-longest // NODES))
    rows, columns = (
        -(-(side + recipe.tile) // pitch) + 2 for side in (recipe.height, recipe.width)
    )
    rng = np.random.default_rng([recipe.seed, 1])
    draw = _FieldGenerator(rng, (rows, columns), recipe, pitch)
    tissue = draw.tissue(recipe.pieces)
    lesions = draw.lesions(recipe.lesions, tissue)
    benign = np.minimum.reduce([tissue, *(-field for field in lesions.values())])
    glands = np.minimum(draw.patches(500, recipe.gland_share), benign - 45 / recipe.mpp)
    return Layout(
        pitch,
        tissue,
        glands.astype(np.float32),
        draw.patches(160, recipe.lymphoid_share),
        draw.folds(recipe.folds),
        draw.ink(recipe.pen_marks, tissue),
        lesions,
        (1 + 0.07 * draw.noise(400) + 0.03 * draw.noise(80)).astype(np.float32),
    )


class _FieldGenerator:
    """Random fields on the lattice of one slide."""

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int], recipe: SlideRecipe, pitch: int
    ) -> None:
        self.rng, self.shape, self.pitch, self.mpp = rng, shape, pitch, recipe.mpp
        rows, columns = np.indices(shape, dtype=np.float32)
        self.x, self.y = (columns + 0.5) * pitch, (rows + 0.5) * pitch
        self.size = np.array([recipe.width, recipe.height], np.float64)

    def noise(self, scale_um: float) -> Plane:
        """Draw smooth noise of correlation length `scale_um`.

        Mean about 0, standard deviation about 1.
        """
        step = max(1.0, scale_um / self.mpp / self.pitch)
        down, across = (_spline(self.rng.random(), step, side) for side in self.shape)
        knots = self.rng.standard_normal((down.shape[1], across.shape[1]), dtype=np.float32)
        return np.ascontiguousarray((across @ (down @ knots).T).T, np.float32)

    def rough(self, scale_um: float) -> Plane:
        """Draw noise with detail down to a fifth of `scale_um`."""
        coarse, middle = self.noise(scale_um), self.noise(scale_um / 2.3)
        return np.asarray(coarse + 0.45 * middle + 0.2 * self.noise(scale_um / 5), np.float32)

    def tissue(self, pieces: int) -> Plane:
        """Draw tissue pieces in a row along the longer side."""
        along = int(self.size[1] > self.size[0])
        cell = self.size.astype(float)
        cell[along] /= pieces
        field = np.full(self.shape, -1e9, np.float32)
        for number in range(pieces):
            center = cell * 0.5
            center[along] += number * cell[along]
            field = np.maximum(field, self._piece(center, cell))
        return np.asarray(field - 1.5 * self._rim(0.07 * float(cell.min())), np.float32)

    def _rim(self, width: float) -> Plane:
        """Return depth in a rim of `width` pixels, 0 elsewhere."""
        across = np.minimum(self.x, self.size[0] - self.x)
        down = np.minimum(self.y, self.size[1] - self.y)
        return np.asarray(np.clip(width - np.minimum(across, down), 0, None), np.float32)

    def _piece(self, center: NDArray[np.float64], cell: NDArray[np.float64]) -> Plane:
        radii = cell * self.rng.uniform(0.34, 0.43, 2)
        center = center + cell * self.rng.uniform(-0.05, 0.05, 2)
        turn = self.rng.uniform(-0.35, 0.35)
        dx, dy = self.x - center[0], self.y - center[1]
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        small = float(radii.min())
        depth = (1 - np.hypot(u / radii[0], v / radii[1])) * small
        edge = 0.13 * small * self.rough(small * self.mpp * 0.7) + 9 / self.mpp * self.rough(60)
        return np.asarray(depth + edge, np.float32)

    def patches(self, scale_um: float, share: float) -> Plane:
        """Draw irregular areas that cover `share` of the slide."""
        noise = self.rough(scale_um)
        return ((noise - np.quantile(noise, 1 - share)) * scale_um / 3 / self.mpp).astype(
            np.float32
        )

    def lesions(self, shares: Mapping[str, float], tissue: Plane) -> dict[str, Plane]:
        """Draw lesions by kind that cover given shares of tissue.

        Lesions of different kinds do not overlap.
        """
        free = np.minimum(tissue, 1e9)
        fields: dict[str, Plane] = {}
        area = int((tissue > 0).sum())
        for kind, share in shares.items():
            field = self._lesion(round(share * area), free)
            fields[kind] = field
            free = np.minimum(free, -field - 12 / self.mpp)
        return fields

    def _lesion(self, nodes: int, free: Plane) -> Plane:
        radius = (nodes / np.pi) ** 0.5 * self.pitch
        distance = np.full(self.shape, 1e9, np.float32)
        for _ in range(3):
            x, y = self._draw_position(free, radius * 0.6)
            distance = np.minimum(distance, np.hypot(self.x - x, self.y - y))
        score = 0.3 * radius * self.rough(max(60.0, radius * self.mpp * 0.6)) - distance
        inside = np.where(free > 0, score, -np.inf)
        level = np.partition(inside.ravel(), -nodes)[-nodes]
        return np.asarray(np.minimum(score - level, free), np.float32)

    def _draw_position(self, free: Plane, depth: float) -> tuple[float, float]:
        """Draw a position `depth` deep, else among the deepest."""
        rows, columns = np.nonzero(free >= min(depth, 0.8 * float(free.max())))
        index = self.rng.integers(len(rows))
        return float(self.x[0, columns[index]]), float(self.y[rows[index], 0])

    def folds(self, count: int) -> Plane:
        """Draw narrow bent bands."""
        field = np.full(self.shape, -1e9, np.float32)
        for _ in range(count):
            x, y = self.rng.uniform(0.2, 0.8, 2) * self.size
            turn, length = self.rng.uniform(0, np.pi), self.rng.uniform(0.12, 0.3) * self.size.min()
            u = (self.x - x) * np.cos(turn) + (self.y - y) * np.sin(turn)
            v = (self.y - y) * np.cos(turn) - (self.x - x) * np.sin(turn)
            bend = 0.12 * length * self.noise(length * self.mpp) + 6 / self.mpp * self.noise(60)
            width = self.rng.uniform(14, 30) / self.mpp * np.clip(1 - (u / length) ** 2, 0, 1)
            field = np.maximum(field, width - np.abs(v + bend) - 1e-3)
        return field.astype(np.float32)

    def ink(self, count: int, tissue: Plane) -> Plane:
        """Draw pen strokes that follow the outline of tissue."""
        distance = 0.045 * float(self.size.min())
        field = np.full(self.shape, -1e9, np.float32)
        for _ in range(count):
            x, y = self.rng.uniform(0.1, 0.9, 2) * self.size
            near = 0.22 * float(self.size.min()) - np.hypot(self.x - x, self.y - y)
            width = distance * (0.25 + 0.05 * self.noise(300))
            wander = distance * 0.5 * self.noise(self.size.min() * self.mpp * 0.3)
            band = width - np.abs(tissue + distance + wander)
            field = np.maximum(field, np.minimum(band, near))
        return field


def _spline(offset: float, step: float, count: int) -> sparse.csr_array:
    """Return weights (count, knots) of cubic B-splines.

    Scaled so that white noise at the knots keeps a standard deviation of 1.
    """
    place = np.arange(count) / step + 1 + offset
    knots = place.astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(place[:, None] - knots)
    far, near = np.clip(2 - distance, 0, None), np.clip(1 - distance, 0, None)
    weights = (far * far * far - 4 * near * near * near) / 6
    weights /= np.sqrt((weights**2).sum(1).mean())
    rows = np.repeat(np.arange(count), 4)
    flat = (weights.ravel().astype(np.float32), (rows, knots.ravel()))
    return sparse.csr_array(flat, shape=(count, int(knots.max()) + 1))
