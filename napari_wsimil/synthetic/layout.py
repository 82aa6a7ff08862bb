"""The layout of a phantom: where on the glass tissue, glands, lesions, folds and ink lie.

A layout holds smooth fields on a coarse lattice of nodes; node (i, j) is the center of a
square of `pitch` level-0 pixels. A field is positive where its thing is, and what is drawn and
what is told as truth are the same zero lines of the same fields.
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

#: Longest side of the lattice in nodes; small slides have a node every 16 pixels.
NODES = 1536
FINEST_PITCH = 16


@dataclass(frozen=True)
class Layout:
    """Fields (rows, columns) of one slide; see the module.

    Attributes
    ----------
    pitch
        Level-0 pixels from node to node.
    tissue, glands, lymphoid, fold, ink
        Depth in pixels inside the thing, negative outside.
    lesions
        The same for each kind of lesion.
    thickness
        Relative amount of stain taken up, around 1.
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
    """Return the layout which `recipe` and its seed ask for."""
    longest = max(recipe.width, recipe.height)
    pitch = max(FINEST_PITCH, -(-longest // NODES))
    rows, columns = (
        -(-(side + recipe.tile) // pitch) + 2 for side in (recipe.height, recipe.width)
    )
    rng = np.random.default_rng([recipe.seed, 1])
    draw = _Draftsman(rng, (rows, columns), recipe, pitch)
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


class _Draftsman:
    """Draws fields on the lattice of one slide, by one random generator."""

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int], recipe: SlideRecipe, pitch: int
    ) -> None:
        self.rng, self.shape, self.pitch, self.mpp = rng, shape, pitch, recipe.mpp
        rows, columns = np.indices(shape, dtype=np.float32)
        self.x, self.y = (columns + 0.5) * pitch, (rows + 0.5) * pitch
        self.size = np.array([recipe.width, recipe.height], np.float64)

    def noise(self, scale_um: float) -> Plane:
        """Return noise over the slide, mean about 0, deviation about 1, of length `scale_um`."""
        step = max(1.0, scale_um / self.mpp / self.pitch)
        down, across = (_spline(self.rng.random(), step, side) for side in self.shape)
        knots = self.rng.standard_normal((down.shape[1], across.shape[1]), dtype=np.float32)
        return np.ascontiguousarray((across @ (down @ knots).T).T, np.float32)

    def rough(self, scale_um: float) -> Plane:
        """Return noise with detail down to a fifth of `scale_um`."""
        coarse, middle = self.noise(scale_um), self.noise(scale_um / 2.3)
        return np.asarray(coarse + 0.45 * middle + 0.2 * self.noise(scale_um / 5), np.float32)

    def tissue(self, pieces: int) -> Plane:
        """Return pieces side by side along the longer side of the slide."""
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
        """Return by how much a place is nearer than `width` to the edge of the slide."""
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
        """Return irregular patches that cover `share` of the slide."""
        noise = self.rough(scale_um)
        return ((noise - np.quantile(noise, 1 - share)) * scale_um / 3 / self.mpp).astype(
            np.float32
        )

    def lesions(self, wanted: Mapping[str, float], tissue: Plane) -> dict[str, Plane]:
        """Return lesions of each kind that cover the wanted share of tissue, none overlapping."""
        free = np.minimum(tissue, 1e9)
        fields: dict[str, Plane] = {}
        area = int((tissue > 0).sum())
        for kind, share in wanted.items():
            field = self._lesion(round(share * area), free)
            fields[kind] = field
            free = np.minimum(free, -field - 12 / self.mpp)
        return fields

    def _lesion(self, nodes: int, free: Plane) -> Plane:
        radius = (nodes / np.pi) ** 0.5 * self.pitch
        distance = np.full(self.shape, 1e9, np.float32)
        for _ in range(3):
            x, y = self._place(free, radius * 0.6)
            distance = np.minimum(distance, np.hypot(self.x - x, self.y - y))
        score = 0.3 * radius * self.rough(max(60.0, radius * self.mpp * 0.6)) - distance
        inside = np.where(free > 0, score, -np.inf)
        level = np.partition(inside.ravel(), -nodes)[-nodes]
        return np.asarray(np.minimum(score - level, free), np.float32)

    def _place(self, free: Plane, depth: float) -> tuple[float, float]:
        """Return a random place as deep as asked for, or else near the deepest there is."""
        rows, columns = np.nonzero(free >= min(depth, 0.8 * float(free.max())))
        index = self.rng.integers(len(rows))
        return float(self.x[0, columns[index]]), float(self.y[rows[index], 0])

    def folds(self, count: int) -> Plane:
        """Return narrow bent bands."""
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
        """Return strokes of a pen that follow the outline of tissue at a distance."""
        away = 0.045 * float(self.size.min())
        field = np.full(self.shape, -1e9, np.float32)
        for _ in range(count):
            x, y = self.rng.uniform(0.1, 0.9, 2) * self.size
            near = 0.22 * float(self.size.min()) - np.hypot(self.x - x, self.y - y)
            width = away * (0.25 + 0.05 * self.noise(300))
            wander = away * 0.5 * self.noise(self.size.min() * self.mpp * 0.3)
            band = width - np.abs(tissue + away + wander)
            field = np.maximum(field, np.minimum(band, near))
        return field


def _spline(offset: float, step: float, count: int) -> sparse.csr_array:
    """Return weights (count, knots) of cubic B-splines that keep a deviation of 1."""
    place = np.arange(count) / step + 1 + offset
    knots = place.astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(place[:, None] - knots)
    far, near = np.clip(2 - distance, 0, None), np.clip(1 - distance, 0, None)
    weights = (far * far * far - 4 * near * near * near) / 6
    weights /= np.sqrt((weights**2).sum(1).mean())
    rows = np.repeat(np.arange(count), 4)
    flat = (weights.ravel().astype(np.float32), (rows, knots.ravel()))
    return sparse.csr_array(flat, shape=(count, int(knots.max()) + 1))
