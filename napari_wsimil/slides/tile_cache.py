"""TileCache: decoded tiles under a byte budget, least recently used out first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

#: Bytes of decoded tiles kept per slide unless said otherwise.
DEFAULT_BUDGET = 512 * 2**20


class TileCache:
    """Thread-safe cache of arrays whose bytes together never exceed `budget`.

    Kept tiles are never evicted; their owner sees to it that they stay a small share.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        if budget < 0:
            raise ValueError(f"a cache budget is 0 bytes or more, not {budget}")
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
        """Return the tile of `key`, made by `make` outside the lock if it is not here.

        Parameters
        ----------
        store
            Whether a tile just made is put into the cache.
        keep
            Whether it then stays until `clear`.
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
