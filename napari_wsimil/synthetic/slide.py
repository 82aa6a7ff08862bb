"""Synthetic slides as TIFF files with ground truth."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.files import atomic_write
from napari_wsimil.progress import Progress
from napari_wsimil.slides.geometry import Region
from napari_wsimil.synthetic.ground_truth import Truth, outline, save_truth
from napari_wsimil.synthetic.layout import lay_out
from napari_wsimil.synthetic.painter import GLASS, Painter
from napari_wsimil.synthetic.texture import MARGIN
from napari_wsimil.synthetic.tiff_writer import (
    CoarseLevel,
    Spool,
    encode,
    level_sizes,
    reduced,
    write_tiff,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_wsimil.progress import Work
    from napari_wsimil.synthetic.recipe import SlideRecipe


@dataclass(frozen=True)
class Phantom:
    """Files and ground truth of a written synthetic slide."""

    path: Path
    truth_path: Path
    truth: Truth


class _Rows:
    """Writer of level 0, row of tiles by row.

    Paints and encodes the blocks of a row in parallel.
    """

    def __init__(self, recipe: SlideRecipe, painter: Painter, pool: ThreadPoolExecutor) -> None:
        self._recipe, self._painter, self._pool = recipe, painter, pool
        side = recipe.tile
        self._width = side * max(1, MARGIN // side)
        self._glass = encode(np.full((side, side, 3), GLASS, np.uint8), recipe.quality)

    def store(self, y: int, spool: Spool, below: CoarseLevel | None) -> None:
        """Store the row of tiles at `y`.

        `below`, the next level, receives it at its own resolution.
        """
        starts = range(0, self._recipe.width, self._width)
        for x, (tiles, small) in zip(
            starts, self._pool.map(partial(self._block, y), starts), strict=True
        ):
            for tile in tiles:
                spool.append(tile)
            if below is not None and small is not None:
                below.put(x // self._recipe.step, small)
        if below is not None:
            below.advance(self._recipe.tile // self._recipe.step)

    def _block(self, y: int, x: int) -> tuple[list[bytes], NDArray[np.uint8] | None]:
        """Return a block's tiles and reduced pixels.

        The reduced pixels are None if all of the block at (x, y) is glass.
        """
        side = self._recipe.tile
        count = -(-min(self._width, self._recipe.width - x) // side)
        pixels = self._painter.block(Region(x, y, count * side, side))
        if pixels is None:
            return [self._glass] * count, None
        starts = range(0, count * side, side)
        tiles = [encode(pixels[:, s : s + side], self._recipe.quality) for s in starts]
        return tiles, reduced(pixels, self._recipe.step)


def _chain(recipe: SlideRecipe, spools: list[Spool]) -> CoarseLevel | None:
    """Return the finest coarse level, linked to the coarser ones."""
    level = None
    for spool in reversed(spools[1:]):
        level = CoarseLevel(spool, recipe, GLASS.astype(np.uint8), level)
    return level


def write_phantom(path: str | os.PathLike[str], recipe: SlideRecipe) -> Work[Phantom]:
    """Write a synthetic slide and its ground truth.

    The file gets its name only when it is complete. Memory is limited to about one row of
    tiles; the disk temporarily needs twice the size of the slide.

    Parameters
    ----------
    path
        Slide file, `.tiff` or `.svs`. The ground truth is written beside it as
        `<stem>.truth.geojson`.
    """
    path = Path(path)
    layout = lay_out(recipe)
    truth, truth_path = outline(layout), path.with_name(f"{path.stem}.truth.geojson")
    with TemporaryDirectory(prefix=".phantom-", dir=path.parent) as folder, ExitStack() as stack:
        spools = [
            Spool(stack.enter_context(Path(folder, f"level{number}").open("w+b")), size)
            for number, size in enumerate(level_sizes(recipe.width, recipe.height, recipe.step))
        ]
        for share in _store_levels(recipe, Painter(recipe, layout), spools):
            yield _progress(share)
        with atomic_write(path) as part:
            for done in write_tiff(part, recipe, spools):
                yield _progress(0.95 + 0.05 * done / len(spools))
            save_truth(truth, truth_path)
    return Phantom(path, truth_path, truth)


def _progress(share: float) -> Progress:
    return Progress(round(1000 * share), 1000)


def _store_levels(recipe: SlideRecipe, painter: Painter, spools: list[Spool]) -> Iterator[float]:
    """Fill the spools of all levels from top to bottom.

    Yields the finished share, 0 to 0.95.
    """
    below = _chain(recipe, spools)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = _Rows(recipe, painter, pool)
        for y in range(0, recipe.height, recipe.tile):
            rows.store(y, spools[0], below)
            yield 0.95 * min(1.0, (y + recipe.tile) / recipe.height)
    if below is not None:
        below.finish()
