"""Least-recently-used cache of decoded tiles with a byte budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

#: Default bytes of cached tiles per slide.
DEFAULT_BUDGET = 512 * 2**20


class TileCache:
    """Thread-safe cache of arrays with a byte budget.

    Tiles stored with `keep` are never evicted; the caller limits their total.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        if budget < 0:
            raise ValueError(f"the cache budget must be at least 0 bytes (got {budget})")
        self.budget = budget
        self.used = 0
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._kept: dict[Hashable, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    def get(
        self,
        key: Hashable,
        make: Callable[[], NDArray[np.uint8]],
        *,
        store: bool = True,
        keep: bool = False,
    ) -> NDArray[np.uint8]:
        """Return the cached tile of `key`, else call `make`.

        `make` runs outside the lock, so tiles are decoded in parallel.

        Parameters
        ----------
        store
            Whether a new tile is cached.
        keep
            Whether a cached new tile is protected from eviction until `clear`.
        """
        with self._lock:
            tile = self._kept.get(key)
            if tile is None and key in self._tiles:
                tile = self._tiles[key]
                self._tiles.move_to_end(key)
        if tile is not None:
            return tile
        tile = make()
        tile.setflags(write=False)
        if store and tile.nbytes <= self.budget:
            self._put(key, tile, keep)
        return tile

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self._kept.clear()
            self.used = 0

    def _put(self, key: Hashable, tile: NDArray[np.uint8], keep: bool) -> None:
        with self._lock:
            if key in self._tiles or key in self._kept:
                return
            (self._kept if keep else self._tiles)[key] = tile
            self.used += tile.nbytes
            while self.used > self.budget and self._tiles:
                _, oldest = self._tiles.popitem(last=False)
                self.used -= oldest.nbytes
