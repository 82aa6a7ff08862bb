"""Resumable feature extraction in bounded memory."""

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

#: Patches per encoder call.
BATCH = 32
#: Patches encoded for an estimate, after one warm-up call.
SAMPLE = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedBatch(Progress):
    """Progress of an extraction, with the newest features.

    `done` and `total` count patches, including those of an earlier run.

    Attributes
    ----------
    start
        Index of the first patch of `rows`.
    rows
        (B, D) float32 features computed since the last progress.
    """

    start: int
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class Estimate:
    """Estimated duration, file size and speed of an extraction.

    Measured on a few patches on this machine.
    """

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
    """Encode a slide's patches and return its `Bag`.

    Yields an `EncodedBatch` per encoder call. A few threads read patches ahead, directly
    from the slide's tiles. Closing the generator stops it within one encoder call and ends
    its threads.

    Parameters
    ----------
    slide, grid, encoder
        Slide, its patches, and their encoder; patches are read at `grid.pixels`.
    path
        HDF5 file to write during the run, see `BagFile`; the file of a stopped run is
        resumed after its last row.
    batch
        Maximum number of patches per encoder call; the encoder's own limit applies too.
    threads
        Reading threads; by default the number of cores minus one, at most 4.

    Raises
    ------
    ValueError
        If the file belongs to another slide, encoder or grid, or features are not finite.
    OSError
        If the slide cannot be read or the disk is full; rows already written remain.
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
    """Estimate duration and file size of an extraction.

    A few patches, spread over the whole slide, are encoded.
    """
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
    """Yield features in batches, beginning with patch `start`."""
    size = min(batch, encoder.largest_batch)
    patches = _read_ahead(slide, grid, start, 2 * size, threads or _reading_threads())
    with closing(patches):
        while block := list(islice(patches, size)):
            rows = encoder(torch.from_numpy(np.stack(block))).numpy()
            if not np.isfinite(rows).all():
                raise ValueError(
                    f"{slide.name}: {encoder.card.name} returned NaN or infinite features for "
                    f"patches {start} to {start + len(rows) - 1}"
                )
            start += len(rows)
            yield rows


def _read_ahead(
    slide: Slide, grid: PatchGrid, start: int, ahead: int, threads: int
) -> Generator[NDArray[np.uint8], None, None]:
    """Yield patches in order while threads read ahead.

    At most `ahead` patches are read in advance.

    Closing the generator ends the threads.
    """
    corners = iter(grid.coords[start:].tolist())
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-patches")

    def read(corner: list[int]) -> NDArray[np.uint8]:
        return slide.read_patch(corner[0], corner[1], grid.patch_size, grid.pixels)

    try:
        pending = deque(pool.submit(read, corner) for corner in islice(corners, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(read, corner) for corner in islice(corners, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _reading_threads() -> int:
    return max(1, min(4, (os.cpu_count() or 1) - 1))
