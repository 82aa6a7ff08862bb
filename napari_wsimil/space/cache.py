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
    """Thread-safe cache of arrays whose bytes together never exceed `budget`."""

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        if budget < 0:
            raise ValueError(f"a cache budget is 0 bytes or more, not {budget}")
        self.budget = budget
        self.used = 0
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the tile of `key`, made by `make` outside the lock if it is not here."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
        tile = make()
        tile.setflags(write=False)
        self._put(key, tile)
        return tile

    def clear(self) -> None:
        with self._lock:
            self._tiles.clear()
            self.used = 0

    def _put(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._tiles or tile.nbytes > self.budget:
                return
            self._tiles[key] = tile
            self.used += tile.nbytes
            while self.used > self.budget:
                _, oldest = self._tiles.popitem(last=False)
                self.used -= oldest.nbytes
