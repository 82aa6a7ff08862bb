"""Trail: the records that were tried on, to go back and forth between."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record


class Trail:
    """Records in the order they came to rest; what was undone is forgotten by a new one."""

    def __init__(self, record: Record | None = None) -> None:
        self._records = [] if record is None else [record]
        self._at = 0

    @property
    def record(self) -> Record | None:
        """Return the one that was reached."""
        return self._records[self._at] if self._records else None

    def add(self, record: Record) -> bool:
        """Go on to a record; return whether it differs from the one before."""
        if self.record is not None and record.values == self.record.values:
            return False
        self._records[self._at + 1 :] = [record]
        self._at = len(self._records) - 1
        return True

    @property
    def first(self) -> bool:
        return self._at == 0

    @property
    def last(self) -> bool:
        return self._at >= len(self._records) - 1

    def go(self, steps: int) -> Record | None:
        """Return the record some steps on, or back, as far as there are any."""
        self._at = max(0, min(self._at + steps, len(self._records) - 1))
        return self.record
