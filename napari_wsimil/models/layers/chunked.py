"""Side: the same work on several parts of something large, side by side.

Torch divides each operation among its threads, which wait for each other after every one of
them. In a program in which several threads use torch, as in a window, they fall asleep meanwhile,
and for small operations a second core is then worth nothing: so each part has a thread of its own.
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

Made = TypeVar("Made")

_TURN = Lock()  # of those who change torch's number of threads


def side_by_side(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """Return what `work` makes of each part, done in as many threads as torch has."""
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def do(part: Part) -> Made:
        with torch.inference_mode(inference), torch.autocast("cpu", enabled=False):
            torch.set_grad_enabled(grad)
            return work(part)

    with _TURN:
        before = torch.get_num_threads()
        threads = min(before, len(parts))
        if threads <= 1:
            return [do(part) for part in parts]
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(do, parts))
        finally:
            torch.set_num_threads(before)


def in_runs(pieces: Sequence[Piece]) -> list[Sequence[Piece]]:
    """Return pieces in as many runs as torch has threads, about equally many in each."""
    size = max(1, -(-len(pieces) // torch.get_num_threads()))
    return [pieces[at : at + size] for at in range(0, len(pieces), size)]


ROWS = 4096  # patches a piece: about 100 ms for an embedding of 1024 → 512 on one slow core


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)` for (N, …) `x`, computed a piece of rows at a time.

    No single call then runs long enough to keep a worker from stopping, nor makes a
    temporary as large as the bag. `function` must treat each row alone.
    """
    return torch.cat([function(part) for part in x.split(ROWS)])
