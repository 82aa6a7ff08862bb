"""Speed: rows of the table of speeds, the slides they are measured on, and their clocks.

A module `_speed_NAME.py` has one function, `rows(n)`, which yields a `Row` for each thing that
NAME can do on a slide of `n` patches; `attention.py` measures them:

    def rows(n: int) -> Iterator[Row]:
        grid, x = tissue(n), features(n)
        layer = …
        error = … if n <= 2_000 else None
        yield Row("longmil_forward", lambda: layer(x), full_attention(n), error, "ms")

Build what a row needs before yielding it: only its two callables are timed. They must compute
in full at every call and may return anything. Torch's threads are set around them (one for
the CPU clock, two for the wall clock); code that starts threads of its own starts
`torch.get_num_threads()` of them. Tensors and modules made inside `rows` land on the device
that is measured, since it is torch's default device then; what comes from numpy goes there by
`.to(torch.get_default_device())`.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from napari_wsimil.synthetic.bags import planted_grid, tissue_cells

if TYPE_CHECKING:
    from napari_wsimil.slides.patch_grid import PatchGrid

Work = Callable[[], object]
Clock = Literal["cpu", "wall"]

WIDTH = 512  # d of the features and of the baseline
KINDS = 6  # of tissue, whose patches look alike


@dataclass(frozen=True)
class Row:
    """One thing to time on a slide of a given size.

    Attributes
    ----------
    key
        Such as "longmil_forward", without the size, which is put behind it.
    ours
        What is timed.
    baseline
        What it is compared with, as a rule `full_attention(n, …)`; None if the row is a time
        and no ratio.
    error
        Largest absolute difference from the same thing computed the slow way, at this size
        or, where that is impossible, None.
    unit
        In which times are printed: "ms" or "s".
    clock
        Which one the row's figure is of: process CPU time on one thread, or wall time.
    width
        d of the unit [N, d] in which extra memory is told.
    """

    key: str
    ours: Work
    baseline: Work | None = None
    error: float | None = None
    unit: str = "ms"
    clock: Clock = "cpu"
    width: int = WIDTH


@dataclass
class Timing:
    """Seconds of the rounds of one callable, by clock."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def seconds(self, clock: Clock) -> float:
        """Return the median of the CPU times; the least of the wall times, or NaN."""
        times = {"cpu": self.cpu, "wall": self.wall}[clock]
        if not times:
            return float("nan")
        return median(times) if clock == "cpu" else min(times)


@lru_cache(maxsize=2)
def tissue(n: int, seed: int = 0) -> PatchGrid:
    """Return a grid of `n` patches on ragged tissue, about half of its bounding square.

    Patches come row by row, as encoders leave them.
    """
    return planted_grid(tissue_cells(n, np.random.default_rng(seed)))


@lru_cache(maxsize=2)
def features(n: int, width: int = WIDTH, seed: int = 0) -> torch.Tensor:
    """Return (n, width) float32 features of `tissue(n)`, neighbors mostly of one kind."""
    random = np.random.default_rng(seed)
    grid = tissue(n, seed)
    cells = grid.coords // grid.stride
    fields = [
        gaussian_filter(random.standard_normal(cells.max(axis=0) + 1), 8) for _ in range(KINDS)
    ]
    kind = np.argmax([field[cells[:, 0], cells[:, 1]] for field in fields], axis=0)
    centers = random.standard_normal((KINDS, width))
    x = (centers[kind] + random.standard_normal((n, width))).astype(np.float32)
    return torch.from_numpy(x).to(torch.get_default_device())


@lru_cache(maxsize=8)
def full_attention(n: int, heads: int = 1, backward: bool = False, width: int = WIDTH) -> Work:
    """Return full scaled-dot-product attention over `n` tokens, forward or both ways.

    It is the same object for the same arguments, so that a slow one is measured once for all
    rows of a run.
    """
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    shape = (1, heads, n, width // heads)
    q, k, v = (torch.randn(shape, generator=generator, requires_grad=backward) for _ in range(3))

    def run() -> object:
        out = F.scaled_dot_product_attention(q, k, v)
        return torch.autograd.grad(out.sum(), (q, k, v)) if backward else out

    return run


class Stopwatch:
    """Times rows, and keeps the times of slow baselines for the rows that share them.

    Rounds are interleaved: ours, then its baseline, `rounds` times over, or fewer where one
    has taken its share of seconds. On a GPU there is but the wall clock.
    """

    def __init__(self, threads: int, rounds: int = 5, patience: float = 10.0) -> None:
        self.threads = threads
        self.rounds = rounds
        self.patience = patience
        self._slow: dict[Work, Timing] = {}

    def time(self, row: Row) -> tuple[Timing, Timing]:
        """Return the timings of a row and of its baseline."""
        ours = Timing()
        theirs = self._slow.get(row.baseline, Timing()) if row.baseline else Timing()
        known = bool(theirs.wall)
        for clock, threads in (("cpu", 1), ("wall", self.threads)):
            if clock == "cpu" and on_gpu():
                continue
            torch.set_num_threads(threads)
            row.ours()  # warms caches, and compiles what is compiled
            spent = [0.0, 0.0]
            for _ in range(self.rounds):
                if spent[0] < self.patience:
                    spent[0] += _clocked(row.ours, clock, ours)
                if row.baseline and not known and spent[1] < self.patience:
                    spent[1] += _clocked(row.baseline, clock, theirs)
            if spent[1] >= self.patience:
                self._slow[row.baseline] = theirs
        return ours, theirs


def _clocked(work: Work, clock: Clock, timing: Timing) -> float:
    """Run `work`, note its time by the clock, and return the wall seconds it took."""
    read = time.process_time if clock == "cpu" else time.perf_counter
    wall, start = time.perf_counter(), read()
    work()
    if on_gpu():
        torch.cuda.synchronize()
    getattr(timing, clock).append(read() - start)
    return time.perf_counter() - wall


def extra_memory(work: Work) -> float:
    """Return the bytes that `work` needs at its peak beyond those there before and after.

    On the CPU this is resident memory, as the kernel counts it, on one thread; on a GPU what
    torch allocates.
    """
    torch.set_num_threads(1)
    gc.collect()
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return float(torch.cuda.max_memory_allocated() - before)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    work()
    return float(_status("VmHWM") - before)


def _status(name: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def on_gpu() -> bool:
    """Return whether it is a GPU that is measured."""
    return torch.get_default_device().type == "cuda"
