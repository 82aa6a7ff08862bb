"""Chain: whether a ledger's entries hang together, and what was lost of it before a rescue.

A rescued ledger keeps the numbers and hashes of the entries that were saved. The entry of the
rescue names those that are gone, and pins those before it, so that the chain shows changes to
them as before.
"""

from __future__ import annotations

import hashlib
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import select

from napari_wsimil.study.entry import Act, entry_of, fault, is_intact
from napari_wsimil.study.stored import StoredEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from napari_wsimil.study.entry import Entry


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
        if row.number in rescues and rescues[row.number].new != pinned(rows[:place]):
            return f"entry {row.number} of the ledger took over other entries than stand before it"
        previous, before = row.hash, row.number
    return ""


def pinned(rows: Iterable[StoredEntry]) -> str:
    """Return the SHA-256 in hex of the hashes of rows, which a rescue keeps of those before it."""
    return hashlib.sha256("\n".join(row.hash for row in rows).encode()).hexdigest()


def cuts(session: Session) -> str:
    """Return which entries were lost before the ledger was rescued, in words; empty if none."""
    rescues = StoredEntry.content.contains(f'"act": "{Act.RESCUED}"')
    rows = session.scalars(select(StoredEntry).where(rescues).order_by(StoredEntry.number))
    entries = [entry_of(row) for row in rows if is_intact(row)]
    told = (f"{spans(e.erased)} (entry {e.number} tells)" for e in entries if e.erased)
    return ", ".join(told)


def spans(numbers: Iterable[int]) -> str:
    """Return numbers in words: 1, 3 to 5."""
    runs = groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ", ".join(f"{e[0]}" if len(e) == 1 else f"{e[0]} to {e[-1]}" for e in ends)


def _declares(entry: Entry) -> bool:
    return bool(entry.erased) or entry.act is Act.RESCUED
