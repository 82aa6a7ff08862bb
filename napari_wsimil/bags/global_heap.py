"""Global heaps of HDF5 files: checked first, for the HDF5 library loops on damaged ones.

Texts in attributes lie in collections of objects that begin with "GCOL" (HDF5 file
format specification, III.E). An object of no size makes the library read it for ever,
which no caller can stop.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Signature, version 1 and three reserved bytes of a collection.
_START = b"GCOL\x01\0\0\0"
#: Bytes before the first object, and those of the header of each.
_HEADER = 16


def check_heaps(path: Path) -> None:
    """Raise ValueError if an object of a global heap cannot be stepped over."""
    if path.stat().st_size < len(_START):
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_START)
        while place >= 0:
            if not _is_whole(data, place):
                raise ValueError(f"{path}: damaged at byte {place}: restore it from a backup")
            place = data.find(_START, place + len(_START))


def _is_whole(data: mmap.mmap, start: int) -> bool:
    """Return whether the objects of a collection fill it one after the other."""
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    place = start + _HEADER
    while place + _HEADER <= end:
        if place + _HEADER > len(data):
            return False
        index = int.from_bytes(data[place : place + 2], "little")
        size = int.from_bytes(data[place + 8 : place + 16], "little")
        step = size if index == 0 else _HEADER + -(-size // 8) * 8
        if step < _HEADER or place + step > end:
            return False
        place += step
    return end <= len(data)
