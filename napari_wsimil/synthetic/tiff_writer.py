"""Streaming writer of pyramidal TIFF files.

All levels grow together from top to bottom: a finished row of tiles of one level is reduced and
passed to the next coarser level. Encoded tiles wait in scratch files until the TIFF is written.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import imagecodecs
import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_wsimil.synthetic.recipe import SlideRecipe

#: Maximum longer side in pixels of the coarsest level.
COARSEST = 1024
#: Maximum bytes of a classic TIFF; larger files need 64-bit offsets.
_CLASSIC_LIMIT = 3_900_000_000


def encode(tile: NDArray[np.uint8], quality: int) -> bytes:
    """Encode a tile as JPEG: YCbCr, chroma at half resolution."""
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile),
            level=quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="420",
        )
    )


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of 2 × 2 pixels."""
    rows = pixels[::2].astype(np.uint16) + pixels[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def reduced(pixels: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Downsample pixels by `step`, a power of two."""
    while step > 1:
        pixels, step = halved(pixels), step // 2
    return pixels


def level_sizes(width: int, height: int, step: int) -> list[tuple[int, int]]:
    """Return (width, height) of all levels, finest first."""
    sizes = [(width, height)]
    while max(sizes[-1]) > COARSEST:
        scale = step ** len(sizes)
        sizes.append((max(1, width // scale), max(1, height // scale)))
    return sizes


class Spool:
    """Encoded tiles of one level in a scratch file."""

    def __init__(self, scratch: IO[bytes], size: tuple[int, int]) -> None:
        self.size = size
        self._scratch = scratch
        self._lengths: list[int] = []

    def append(self, tile: bytes) -> None:
        self._scratch.write(tile)
        self._lengths.append(len(tile))

    @property
    def stored(self) -> int:
        return sum(self._lengths)

    def __iter__(self) -> Iterator[bytes]:
        self._scratch.seek(0)
        for length in self._lengths:
            yield self._scratch.read(length)


class CoarseLevel:
    """Level below the first.

    Collects one row of tiles, stores it, and passes it to the next level at reduced
    resolution.
    """

    def __init__(
        self, spool: Spool, recipe: SlideRecipe, glass: NDArray[np.uint8], below: CoarseLevel | None
    ) -> None:
        self._spool, self._recipe, self._glass, self._below = spool, recipe, glass, below
        self._strip = np.empty(
            (recipe.tile, -(-spool.size[0] // recipe.tile) * recipe.tile, 3), np.uint8
        )
        self._clear()

    def _clear(self) -> None:
        self._strip[:] = self._glass
        self._filled = 0

    def put(self, x: int, pixels: NDArray[np.uint8]) -> None:
        """Copy pixels to column `x` of the current tiles."""
        width = min(pixels.shape[1], self._strip.shape[1] - x)
        if width > 0:
            rows = slice(self._filled, self._filled + pixels.shape[0])
            self._strip[rows, x : x + width] = pixels[:, :width]

    def advance(self, rows: int) -> None:
        """Count `rows` complete rows; store full tiles."""
        self._filled += rows
        if self._filled == self._recipe.tile:
            self.flush()

    def flush(self) -> None:
        """Store the collected rows as a row of tiles."""
        if not self._filled:
            return
        side = self._recipe.tile
        for x in range(0, self._strip.shape[1], side):
            self._spool.append(encode(self._strip[:, x : x + side], self._recipe.quality))
        if self._below is not None:
            self._below.put(0, reduced(self._strip, self._recipe.step))
            self._below.advance(side // self._recipe.step)
        self._clear()

    def finish(self) -> None:
        """Store remaining rows of this and all coarser levels."""
        self.flush()
        if self._below is not None:
            self._below.finish()


def describe(recipe: SlideRecipe, size: tuple[int, int]) -> str:
    """Return the header that identifies an Aperio pyramid."""
    tile = recipe.tile
    return (
        f"Aperio Image Library (napari-wsimil phantom)\r\n{recipe.width}x{recipe.height} "
        f"[0,0 {size[0]}x{size[1]}] ({tile}x{tile}) JPEG/YCC Q={recipe.quality}"
        f"|AppMag = {10 / recipe.mpp:g}|MPP = {recipe.mpp:.6g}"
        f"|Synthetic = napari-wsimil phantom"
    )


def write_tiff(path: Path | str, recipe: SlideRecipe, levels: list[Spool]) -> Iterator[int]:
    """Write levels to a TIFF file, with a thumbnail second.

    Yields the number of written levels after each one.
    """
    big = sum(level.stored for level in levels) > _CLASSIC_LIMIT
    tile = (recipe.tile, recipe.tile)
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for number, level in enumerate(levels):
            _write_page(writer, recipe, level.size, iter(level), tile=tile)
            if number == 0:
                size, content = _thumbnail(levels[-1], recipe)
                _write_page(writer, recipe, size, iter([content]), rows=size[1])
            yield number + 1


def _write_page(
    writer: tifffile.TiffWriter,
    recipe: SlideRecipe,
    size: tuple[int, int],
    content: Iterator[bytes],
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
) -> None:
    writer.write(
        content,
        shape=(size[1], size[0], 3),
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        description=describe(recipe, size),
        resolution=(1e4 / recipe.mpp * size[0] / recipe.width,) * 2,
        resolutionunit="CENTIMETER",
        software=False,
        metadata=None,
        tile=tile,
        rowsperstrip=rows,
    )


def _thumbnail(level: Spool, recipe: SlideRecipe) -> tuple[tuple[int, int], bytes]:
    """Return size and JPEG of a level as one image."""
    width, height = level.size
    tiles = [imagecodecs.jpeg8_decode(tile) for tile in level]
    across = -(-width // recipe.tile)
    rows = [np.hstack(tiles[i : i + across]) for i in range(0, len(tiles), across)]
    return level.size, encode(np.vstack(rows)[:height, :width], recipe.quality)
