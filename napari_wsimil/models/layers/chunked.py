"""Chunked work: row by row chunks and parallel threads.

Torch divides each operation among its threads and synchronizes them after every operation. If
several threads of a program use torch, as in a window, these worker threads fall asleep between
operations, and for small operations a second core then gains nothing. `side_by_side` therefore
runs each part in a thread of its own, with one torch thread each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

Part = TypeVar("Part")

Piece = TypeVar("Piece")

Result = TypeVar("Result")

_THREADS_LOCK = Lock()  # guards torch's number of threads


def side_by_side(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return `work(part)` of each part, computed in parallel threads.

    There are as many threads as torch has, one torch thread each.
    """
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run(part: Part) -> Result:
        with torch.inference_mode(inference), torch.autocast("cpu", enabled=False):
            torch.set_grad_enabled(grad)
            return work(part)

    with _THREADS_LOCK:
        before = torch.get_num_threads()
        threads = min(before, len(parts))
        if threads <= 1:
            return [run(part) for part in parts]
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(run, parts))
        finally:
            torch.set_num_threads(before)


def in_runs(pieces: Sequence[Piece]) -> list[Sequence[Piece]]:
    """Return pieces split evenly into one run per torch thread."""
    size = max(1, -(-len(pieces) // torch.get_num_threads()))
    return [pieces[at : at + size] for at in range(0, len(pieces), size)]


ROWS = 4096  # rows of a chunk: about 100 ms for an embedding of 1024 → 512 on one slow core


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)` of (N, …) `x`, in row chunks.

    A worker can then stop between calls, and no temporary is as large as the bag. `function`
    must process each row independently.
    """
    return torch.cat([function(part) for part in x.split(ROWS)])
