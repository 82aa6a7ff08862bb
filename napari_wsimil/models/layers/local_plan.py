"""LocalPlan: blocks of patches for local attention.

Patches are sorted into strips of the slide as wide as the radius, and within a strip by row.
The neighbors of a short run of a strip are then in at most three runs of consecutive rows, in
its own strip and the two adjacent ones, so that slices of the features replace gathered
neighbors. About half of the pairs computed this way are within the radius; the others are
masked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

BLOCK = 56  # approximate number of queries of a block


@dataclass(frozen=True, eq=False)
class Block:
    """Queries computed together, and the keys computed for them.

    Attributes
    ----------
    start, stop
        The queries, rows in the order of the plan.
    runs
        (start, stop) of the rows that contain all their neighbors, in order.
    """

    start: int
    stop: int
    runs: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> slice:
        """Return the queries as a slice of rows."""
        return slice(self.start, self.stop)

    @property
    def keys(self) -> int:
        """Return the number of keys in all runs."""
        return sum(stop - start for start, stop in self.runs)

    def spans(self) -> Iterator[tuple[slice, slice]]:
        """Yield each run's rows and its columns among all keys."""
        column = 0
        for start, stop in self.runs:
            yield slice(start, stop), slice(column, column + stop - start)
            column += stop - start


@dataclass(frozen=True, eq=False)
class LocalPlan:
    """Neighbors of all patches, planned once per grid and radius.

    Attributes
    ----------
    order
        (N,) int64: row i of the plan is patch order[i].
    cells
        (N, 2) float32, (x, y) of the rows, in that order.
    radius
        Largest Euclidean distance of neighbors, in cells.
    groups
        All blocks by pairs of strips. Groups of even number share no keys, nor do those of
        odd number: they can add to the gradients of keys in parallel.
    """

    order: Tensor
    cells: Tensor
    radius: float
    groups: tuple[tuple[Block, ...], ...]

    def __len__(self) -> int:
        return len(self.order)

    def sort(self, x: Tensor) -> Tensor:
        """Return (N, …) `x` reordered from bag to plan order."""
        return x[self.order]

    def unsort(self, x: Tensor) -> Tensor:
        """Return (N, …) `x` reordered from plan to bag order."""
        return torch.empty_like(x).index_copy(0, self.order, x)

    def rows_of(self, patches: Tensor) -> Tensor:
        """Return (Q,) int64, the rows of some patches."""
        return self.order.argsort()[patches]

    def around(self, rows: Tensor) -> Tensor:
        """Return (n,) int64, the rows near (Q,) rows.

        They fill a rectangle that contains all neighbors of the rows.
        """
        cells = self.cells[rows]
        low, high = cells.amin(dim=0) - self.radius, cells.amax(dim=0) + self.radius
        return ((self.cells >= low) & (self.cells <= high)).all(dim=1).nonzero()[:, 0]

    def near(self, rows: Tensor, others: Tensor | None = None) -> Tensor:
        """Return (Q, n) bool, True where rows are neighbors.

        It compares (Q,) `rows` with (n,) `others`, or with all rows if None.
        """
        cells = self.cells if others is None else self.cells[others]
        offset = self.cells[rows, None] - cells
        return offset.square().sum(dim=-1) <= self.radius**2

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Return all blocks, in the order of their queries."""
        return tuple(block for group in self.groups for block in group)

    @property
    def pairs(self) -> int:
        """Return the most (query, key) pairs of any block."""
        return max((block.stop - block.start) * block.keys for block in self.blocks)

    @cached_property
    def biases(self) -> dict[Block, Tensor]:
        """Return (queries, keys) biases of each block, in bfloat16.

        0 within the radius, -inf beyond.
        """
        return {block: self._bias(block) for block in self.blocks}

    def _bias(self, block: Block) -> Tensor:
        keys = torch.cat([self.cells[start:stop] for start, stop in block.runs])
        x, y = (self.cells[block.start : block.stop, None] - keys).unbind(-1)
        far = (x * x).addcmul_(y, y) > self.radius**2
        return torch.zeros(far.shape, dtype=torch.bfloat16).masked_fill_(far, -math.inf)

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor]:
        """Return query and key rows of all blocks, padded.

        (B, q) and (B, k), padded with -1.
        """
        queries = [torch.arange(block.start, block.stop) for block in self.blocks]
        keys = [torch.cat([torch.arange(*run) for run in block.runs]) for block in self.blocks]
        both = (pad_sequence(x, batch_first=True, padding_value=-1) for x in (queries, keys))
        rows, columns = (x.to(self.order.device) for x in both)
        return rows, columns


def plan_local(
    cells: NDArray[np.int64], radius: float, device: torch.device | None = None
) -> LocalPlan:
    """Return the plan of (N, 2) lattice cells (x, y).

    Cells are not negative; a cell may contain several patches.

    Raises
    ------
    ValueError
        If there is no cell or the radius is negative.
    """
    if len(cells) == 0 or radius < 0:
        raise ValueError(f"{len(cells)} cells must be ≥ 1 and radius {radius} ≥ 0")
    width = max(1, min(int(radius), int(cells.max()) + 1))
    strip = cells[:, 0] // width
    order = np.lexsort((cells[:, 0], cells[:, 1], strip))
    layout = _Layout(cells[order], strip[order], width, radius)
    return LocalPlan(
        order=torch.from_numpy(order).to(device),
        cells=torch.from_numpy(layout.cells.astype(np.float32)).to(device),
        radius=radius,
        groups=tuple(layout.groups()),
    )


class _Layout:
    """Sorted cells, with a search for parts of strips."""

    def __init__(
        self, cells: NDArray[np.int64], strip: NDArray[np.int64], width: int, radius: float
    ) -> None:
        self.cells = cells
        self.strip = strip
        self.width = width
        self.radius = radius
        self.span = int(cells[:, 1].max()) + int(min(radius, cells.max())) + 2
        self.key = strip * self.span + cells[:, 1]

    def groups(self) -> Iterator[tuple[Block, ...]]:
        for pair in np.unique(self.strip // 2).tolist():
            yield (*self._strip(2 * pair), *self._strip(2 * pair + 1))

    def _strip(self, strip: int) -> Iterator[Block]:
        start, stop = np.searchsorted(self.strip, (strip, strip + 1)).tolist()
        count = max(1, round((stop - start) / BLOCK))
        cuts = np.linspace(start, stop, count + 1).astype(int).tolist()
        for a, b in pairwise(cuts):
            if b > a:
                runs = (self._run(a, b, near) for near in (strip - 1, strip, strip + 1))
                yield Block(a, b, tuple(run for run in runs if run[1] > run[0]))

    def _run(self, a: int, b: int, strip: int) -> tuple[int, int]:
        """Return a strip's rows near the rows a to b."""
        x, low, high = self.cells[a:b, 0], int(self.cells[a, 1]), int(self.cells[b - 1, 1])
        left, right = strip * self.width, (strip + 1) * self.width - 1
        gap = max(0, left - int(x.max()), int(x.min()) - right)
        if gap > self.radius:
            return 0, 0
        reach = math.floor(math.sqrt(self.radius**2 - gap**2))
        ends = (max(low - reach, 0), min(high + reach, self.span - 1))
        start = np.searchsorted(self.key, strip * self.span + ends[0], side="left")
        stop = np.searchsorted(self.key, strip * self.span + ends[1], side="right")
        return int(start), int(stop)
