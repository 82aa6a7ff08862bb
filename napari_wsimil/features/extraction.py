"""Features: encode every patch of a slide, in bounded memory, to be stopped and resumed."""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import BagFile, Provenance
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.progress import Work
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide

#: Patches in a call of the encoder.
BATCH = 32
#: Patches on which an estimate is measured, after one call to warm up.
SAMPLE = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedBatch(Progress):
    """Progress of an extraction, with the newest features.

    `done` and `total` count patches, those of an earlier run included.

    Attributes
    ----------
    start
        Index of the first patch of `rows`.
    rows
        (B, D) float32, the features made since the last progress.
    """

    start: int
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class Estimate:
    """What an extraction will take on this machine, measured on a few patches."""

    hours: float
    gigabytes: float
    patches_per_second: float


def extract_features(
    slide: Slide,
    grid: PatchGrid,
    encoder: PatchEncoder,
    path: Path | str | None = None,
    batch: int = BATCH,
    threads: int | None = None,
) -> Work[Bag]:
    """Encode patches, yield each `EncodedBatch`, and return the slide's `Bag`.

    Patches are read ahead by a few threads straight from the tiles of the slide. Closing
    the generator stops it within one call of the encoder and ends its threads.

    Parameters
    ----------
    slide, grid, encoder
        What is encoded, where, and by what; patches are given to the encoder at
        `grid.pixels`.
    path
        HDF5 file to write as it goes, see `BagFile`; if a stopped run left one, its
        rows are taken over and the rest is added.
    batch
        Most patches per call of the encoder; the encoder's own limit is kept too.
    threads
        Threads that read; by default one less than there are cores, at most 4.

    Raises
    ------
    ValueError
        If the file is of another slide, encoder or grid, or features are not finite.
    OSError
        If the slide cannot be read or the disk is full; what was written stays.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    dim, total = encoder.card.dim, len(grid)
    provenance = Provenance(
        encoder.card.identity, slide.fingerprint, slide.synthetic, reading=slide.reading
    )
    with _file(path, grid, dim, provenance) as file:
        features = np.empty((total, dim), dtype=np.float32)
        done = 0 if file is None else len(file)
        if file is not None:
            features[:done] = file.read()
        yield EncodedBatch(done, total, start=0, rows=features[:done])
        for rows in _encoded(slide, grid, encoder, done, batch, threads):
            start, done = done, done + len(rows)
            features[start:done] = rows
            if file is not None:
                file.append(rows)
            yield EncodedBatch(done, total, start=start, rows=rows)
    return Bag(
        torch.from_numpy(features),
        encoder=provenance.encoder,
        grid=grid,
        synthetic=provenance.synthetic,
        slide=provenance.slide,
        reading=provenance.reading,
    )


def estimate(slide: Slide, grid: PatchGrid, encoder: PatchEncoder) -> Estimate:
    """Return hours and gigabytes of an extraction, from a few patches all over the slide."""
    chosen = np.linspace(0, len(grid) - 1, min(len(grid), SAMPLE)).astype(int)
    sample = replace(grid, coords=grid.coords[chosen])
    for _ in islice(_encoded(slide, sample, encoder, 0, BATCH, None), 1):
        pass
    start = time.perf_counter()
    for _ in _encoded(slide, sample, encoder, 0, BATCH, None):
        pass
    rate = len(sample) / (time.perf_counter() - start)
    row_bytes = 4 * encoder.card.dim + 2 * 8
    return Estimate(len(grid) / rate / 3600, len(grid) * row_bytes / 1e9, rate)


def _file(
    path: Path | str | None, grid: PatchGrid, dim: int, provenance: Provenance
) -> AbstractContextManager[BagFile | None]:
    return nullcontext() if path is None else BagFile(Path(path), grid, dim, provenance)


def _encoded(
    slide: Slide,
    grid: PatchGrid,
    encoder: PatchEncoder,
    start: int,
    batch: int,
    threads: int | None,
) -> Generator[NDArray[np.float32], None, None]:
    """Yield the features of patches from `start` on, batch by batch."""
    size = min(batch, encoder.largest_batch)
    patches = _read_ahead(slide, grid, start, 2 * size, threads or _reading_threads())
    with closing(patches):
        while block := list(islice(patches, size)):
            rows = encoder(torch.from_numpy(np.stack(block))).numpy()
            if not np.isfinite(rows).all():
                raise ValueError(
                    f"{slide.name}: {encoder.card.name} gives NaN or infinite features for "
                    f"patches {start} to {start + len(rows) - 1}"
                )
            start += len(rows)
            yield rows


def _read_ahead(
    slide: Slide, grid: PatchGrid, start: int, ahead: int, threads: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield patches in order, `ahead` of them being read meanwhile; closing ends the threads."""
    places = iter(grid.coords[start:].tolist())
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-patches")

    def read(place: list[int]) -> NDArray[np.uint8]:
        return slide.read_patch(place[0], place[1], grid.patch_size, grid.pixels)

    try:
        waiting = deque(pool.submit(read, place) for place in islice(places, ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(read, place) for place in islice(places, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _reading_threads() -> int:
    return max(1, min(4, (os.cpu_count() or 1) - 1))
