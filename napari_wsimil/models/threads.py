"""Threads: how many cores torch works with."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def core_to_spare() -> Iterator[None]:
    """Leave one core to what else goes on: threads that read patches, a window that draws.

    Torch's threads wait for each other in a loop, so with all cores taken each other thread
    holds up all of them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, (os.cpu_count() or 1) - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
