"""Chain: whether a ledger's entries hang together.

Studies that an earlier version rescued may lack entries: the entry of the rescue declares their
numbers, and pins the hashes of those before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from napari_wsimil.study.entry import Act, entry_of, fault, is_intact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_wsimil.study.entry import Entry
    from napari_wsimil.study.stored import StoredEntry


def first_fault(rows: Sequence[StoredEntry]) -> str:
    """Return a sentence on the first of all rows that breaks the chain, empty if it holds."""
    told = [entry for entry in map(entry_of, filter(is_intact, rows)) if _declares(entry)]
    erased = {number for entry in told for number in entry.erased}
    rescues = {entry.number: entry for entry in told if entry.act is Act.RESCUED}
    gone = {number for entry in rescues.values() for number in entry.erased}
    previous, before = "", 0
    for place, row in enumerate(rows):
        lost = next((n for n in range(before + 1, row.number) if n not in gone), None)
        if lost is not None:
            return f"entry {lost} of the ledger is gone"
        is_cut = row.number > before + 1 and row.number not in rescues
        if wrong := fault(row, row.previous if is_cut else previous, erased):
            return f"entry {row.number} of the ledger {wrong}"
        if row.number in rescues and rescues[row.number].new != _pinned(rows[:place]):
            return f"entry {row.number} of the ledger took over other entries than stand before it"
        previous, before = row.hash, row.number
    return ""


def _pinned(rows: Iterable[StoredEntry]) -> str:
    """Return the SHA-256 in hex of the hashes of rows, as a rescue kept them."""
    return hashlib.sha256("\n".join(row.hash for row in rows).encode()).hexdigest()


def _declares(entry: Entry) -> bool:
    return bool(entry.erased) or entry.act is Act.RESCUED
