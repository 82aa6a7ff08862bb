"""Painter of synthetic slides, one independent block at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from napari_wsimil.synthetic.objects import OD_STEP, glands, lay, soft_step
from napari_wsimil.synthetic.texture import PERIOD, bank, warp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_wsimil.slides.geometry import Region
    from napari_wsimil.synthetic.layout import Layout
    from napari_wsimil.synthetic.objects import Plane
    from napari_wsimil.synthetic.recipe import SlideRecipe

#: Optical density of red, green and blue light in each stain.
HEMATOXYLIN = np.array([0.62, 0.68, 0.36])
EOSIN = np.array([0.10, 0.80, 0.42])
GLASS = np.array([243.0, 242.0, 244.0])
INKS = np.array([[30, 60, 150], [20, 120, 80], [40, 40, 45]], np.float32)

#: Side in pixels of areas that are cut from different parts of a texture.
PATCH = 560
#: Half the width in pixels of the soft edge of ink.
INK_EDGE = 6
_WHOLE = (1 << 64) - 1


def _hash(*numbers: int) -> int:
    """Hash integers to 64 bits with the finalizer of splitmix64."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & _WHOLE)) * 0xBF58476D1CE4E5B9 & _WHOLE
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _WHOLE
        state ^= state >> 31
    return state


def stain_table(rng: np.random.Generator, variation: float) -> NDArray[np.uint32]:
    """Return colors by index hematoxylin << 8 | eosin.

    Colors are the bytes R, G, B, 0; (65536,) uint32.
    """
    turn = rng.normal(0, 0.045 * variation, (2, 3))
    strength = np.exp(rng.normal(0, 0.11 * variation, 2))
    stains = (np.stack([HEMATOXYLIN, EOSIN]) + turn).clip(0.03) * strength[:, None]
    steps = np.arange(256) * OD_STEP
    density = steps[:, None, None] * stains[0] + steps[None, :, None] * stains[1]
    colors = np.zeros((256, 256, 4), np.uint8)
    colors[..., :3] = np.round(GLASS * 10**-density)
    return colors.view(np.uint32).ravel()


class _Axis(NamedTuple):
    """Linear interpolation between nodes for pixels along one axis.

    Attributes
    ----------
    nodes
        Range of nodes around the pixels.
    before
        Index of the node before each pixel, within `nodes`.
    share
        Weight of the node after it, 0 to 1.
    """

    nodes: slice
    before: NDArray[np.intp]
    share: Plane

    @classmethod
    def of(cls, pitch: int, start: int, count: int) -> Self:
        position = np.maximum((np.arange(start, start + count) + 0.5) / pitch - 0.5, 0)
        node = position.astype(np.intp)
        nodes = slice(int(node[0]), int(node[-1]) + 2)
        return cls(nodes, node - node[0], (position - node).astype(np.float32))


class _Window:
    """Interpolation of a layout's fields to a block's pixels."""

    def __init__(self, pitch: int, place: Region) -> None:
        self._columns = _Axis.of(pitch, place.x, place.width)
        self._rows = _Axis.of(pitch, place.y, place.height)

    def coarse(self, field: Plane) -> Plane:
        """Return the nodes around the block."""
        return field[self._rows.nodes, self._columns.nodes]

    def cut(self, field: Plane) -> Plane:
        """Interpolate a field linearly to every pixel of the block."""
        nodes = self.coarse(field)
        _, left, share = self._columns
        wide = nodes[:, left] + (nodes[:, left + 1] - nodes[:, left]) * share
        _, above, share = self._rows
        pixels = np.diff(wide, axis=0)[above]
        pixels *= share[:, None]
        pixels += wide[above]
        return pixels


class _Block(NamedTuple):
    """Block to paint.

    Attributes
    ----------
    place
        Its region in level-0 pixels.
    window
        Its window on the layout's fields.
    ragged
        (2, height, width), displacement of borders in pixels.
    patches
        Mask and hash of each irregular texture area.
    """

    place: Region
    window: _Window
    ragged: NDArray[np.int16]
    patches: list[tuple[NDArray[np.bool_], int]]


class Painter:
    """Painter of the slide of a recipe and its layout.

    `block` may be called from several threads and in any order; blocks have at most
    `MARGIN` × `MARGIN` pixels.
    """

    def __init__(self, recipe: SlideRecipe, layout: Layout) -> None:
        self._recipe, self._layout, self._mpp = recipe, layout, recipe.mpp
        rng = np.random.default_rng([recipe.seed, 2])
        self._table = stain_table(rng, recipe.stain_variation)
        self._ink = INKS[rng.integers(len(INKS))] / 255
        self._warp = warp(recipe.mpp)
        self._glands = glands(recipe.mpp)
        self._banks = {k: bank(k, recipe.mpp) for k in ("stroma", "lymphoid", *layout.lesions)}
        self._spacing = round(82 / recipe.mpp)

    def block(self, place: Region) -> NDArray[np.uint8] | None:
        """Paint a block as RGB (height, width, 3).

        `place` is its region in level-0 pixels. None if all of it is glass.
        """
        window = _Window(self._layout.pitch, place)
        tissue = window.coarse(self._layout.tissue).max() > -40 / self._mpp
        ink = window.coarse(self._layout.ink).max() > -INK_EDGE
        if not tissue and not ink:
            return None
        stains = np.zeros((2, place.height, place.width), np.float32)
        if tissue:
            stains = self._tissue(self._make_block(place, window))
        pixels = self._to_colors(stains)
        return self._blend_ink(pixels, window) if ink else pixels

    def _make_block(self, place: Region, window: _Window) -> _Block:
        x, y = place.x % PERIOD, place.y % PERIOD
        ragged = self._warp[:, y : y + place.height, x : x + place.width]
        columns = np.arange(place.x, place.x + place.width, dtype=np.int32) + ragged[0]
        rows = np.arange(place.y, place.y + place.height, dtype=np.int32)[:, None] + ragged[1]
        return _Block(place, window, ragged, list(self._patches(columns // PATCH, rows // PATCH)))

    def _patches(
        self, columns: NDArray[np.int32], rows: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.bool_], int]]:
        """Yield irregular areas that partition the block.

        Each is a mask and a hash.
        """
        for j in range(int(rows.min()), int(rows.max()) + 1):
            within = rows == j
            for i in range(int(columns.min()), int(columns.max()) + 1):
                mask = within & (columns == i)
                if mask.any():
                    yield mask, _hash(self._recipe.seed, i, j)

    def _tissue(self, block: _Block) -> Plane:
        """Paint the stains of a block in order, stroma first."""
        layout, window = self._layout, block.window
        stains = self._texture("stroma", block).astype(np.float32)
        self._blend_texture(stains, "lymphoid", layout.lymphoid, 0.8, block)
        self._blend_glands(stains, block.place)
        for kind, field in layout.lesions.items():
            self._blend_texture(stains, kind, field, 0.1, block)
        stains *= window.cut(layout.thickness)
        if window.coarse(layout.fold).max() > -5 / self._mpp:
            stains *= 1 + 0.9 * soft_step(window.cut(layout.fold), 2.5 / self._mpp)
        if window.coarse(layout.tissue).min() < 60 / self._mpp:
            edge = window.cut(layout.tissue) + 0.4 * block.ragged[1]
            stains *= soft_step(edge, 1.2 / self._mpp)
        return stains

    def _blend_texture(
        self, stains: Plane, kind: str, field: Plane, fraying: float, block: _Block
    ) -> None:
        """Blend a texture over `stains` at positive `field`, in place."""
        if block.window.coarse(field).max() > -(5 + 120 * fraying) / self._mpp:
            alpha = block.window.cut(field) + np.float32(fraying) * block.ragged[0]
            alpha = soft_step(alpha, 3 / self._mpp)
            stains += (self._texture(kind, block) - stains) * alpha

    def _texture(self, kind: str, block: _Block) -> NDArray[np.uint8]:
        """Return the stain planes of one texture.

        Each irregular area is cut from another position of the bank.
        """
        x, y, width, height = block.place
        planes = np.empty((2, height, width), np.uint8)
        for mask, seed in block.patches:
            code = _hash(seed, *kind.encode())
            left, top, flip = x + (code & 0xFFFF), y + (code >> 16 & 0xFFFF), code >> 32 & 3
            cut = self._banks[kind].cut(left, top, width, height, flip)
            np.copyto(planes, cut, where=mask)
        return planes

    def _blend_glands(self, stains: Plane, place: Region) -> None:
        """Blend a block's glands over its stains, in place."""
        step = self._spacing
        for j in range(place.y // step - 2, (place.y + place.height) // step + 3):
            for i in range(place.x // step - 2, (place.x + place.width) // step + 3):
                code = _hash(self._recipe.seed, i, j, 7)
                x = int((i + 0.5 * (j & 1) + 0.34 * (code & 0xFF) / 255) * step)
                y = int((j + 0.34 * (code >> 8 & 0xFF) / 255) * step)
                if self._in_glands(x, y):
                    stamp = self._glands[(code >> 16) % len(self._glands)]
                    lay(stains, stamp, x - place.x, y - place.y, code >> 40 & 3)

    def _in_glands(self, x: int, y: int) -> bool:
        field, pitch = self._layout.glands, self._layout.pitch
        row, column = y // pitch, x // pitch
        inside = 0 <= row < field.shape[0] and 0 <= column < field.shape[1]
        return inside and bool(field[row, column] > 0)

    def _to_colors(self, stains: Plane) -> NDArray[np.uint8]:
        steps = np.clip(stains, 0, 255).astype(np.intp)
        colors = self._table.take(steps[0] << 8 | steps[1]).view(np.uint8)
        pixels = np.empty((*stains.shape[1:], 3), np.uint8)
        for channel in range(3):  # three strided copies are faster than one copy of triples
            pixels[..., channel] = colors[:, channel::4]
        return pixels

    def _blend_ink(self, pixels: NDArray[np.uint8], window: _Window) -> NDArray[np.uint8]:
        alpha = 0.85 * soft_step(window.cut(self._layout.ink), INK_EDGE)[..., None]
        return np.asarray(pixels * (1 - alpha * (1 - self._ink)), np.uint8)
