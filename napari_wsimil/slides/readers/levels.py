"""Factors between level 0 and coarser levels.

A file states the sizes of its levels, not their factors, and sizes are rounded down or up to
whole pixels: 700 px at 1/16 are 43.75 px, stored as 43 or 44. At a true factor of 16, the
ratio of sizes is then 16.28 or 15.91 along this axis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.slides.geometry import Level

Size = tuple[int, int]


def level_factors(finest: Size, size: Size) -> tuple[float, float]:
    """Return level-0 pixels per level pixel along x and y.

    Returns one factor for both axes if it explains the level's size, rounded down or up:
    the exact ratio of the sizes, a power of two, a whole number, the ratio of the longer
    axis or any other, in this order. Otherwise returns the ratio of each axis.

    Parameters
    ----------
    finest, size
        (width, height) of level 0 and of the level, in pixels of each.
    """
    ratios = finest[0] / size[0], finest[1] / size[1]
    if ratios[0] == ratios[1]:
        return ratios
    longer = ratios[0] if finest[0] >= finest[1] else ratios[1]
    candidates = *_powers_of_two(longer), *_whole(longer), longer, _between(finest, size)
    for factor in candidates:
        if factor >= 1 and all(map(_explains, (factor, factor), finest, size)):
            return float(factor), float(factor)
    return ratios


def level_notes(sizes: Sequence[Size]) -> tuple[str, ...]:
    """Return notes on levels with different factors per axis."""
    notes = ((number, size, _disagreement(sizes[0], size)) for number, size in enumerate(sizes))
    return tuple(f"{level_name(number, size)}: {text}" for number, size, text in notes if text)


def level_name(number: int, size: Size) -> str:
    """Return the name of a level for messages."""
    return f"level {number} ({size[0]} × {size[1]} px)"


def _disagreement(finest: Size, size: Size) -> str:
    """Return a sentence if factors differ by axis, else empty."""
    x, y = level_factors(finest, size)
    if x == y:
        return ""
    return f"its size makes it {x:.4g} × {y:.4g} times as coarse, so it may be padded or misplaced"


def moves(level: Level, downsample: float) -> bool:
    """Return whether positions differ from reader version 1.

    Version 1 used one `downsample` for both axes, from the slide's corner. Differences of up
    to half a pixel of the level do not count.
    """
    sides = zip(level.factors, level.origin, (level.width, level.height), strict=True)
    return any(
        abs((start + side * factor) / downsample - side) > 0.5 or abs(start) / downsample > 0.5
        for factor, start, side in sides
    )


def _explains(factor: float, finest: int, side: int) -> bool:
    """Return whether `side` is `finest / factor`, rounded."""
    exact = finest / factor
    nearest = round(exact)
    if abs(exact - nearest) < 1e-9 * exact:
        return side == nearest
    return side in (math.floor(exact), math.ceil(exact))


def _between(finest: Size, size: Size) -> float:
    """Return the middle of the factors that explain both sides.

    If no factor does, the result is meaningless; check it with `_explains`.
    """
    low = max(whole / (side + 1) for whole, side in zip(finest, size, strict=True))
    high = min(whole / max(side - 1, 0.5) for whole, side in zip(finest, size, strict=True))
    return (low + high) / 2


def _powers_of_two(ratio: float) -> list[int]:
    """Return the two nearest powers of two, nearest first."""
    low = 2 ** math.floor(math.log2(max(ratio, 1)))
    return sorted((low, 2 * low), key=lambda factor: abs(math.log(factor / ratio)))


def _whole(ratio: float) -> list[int]:
    """Return the two nearest whole numbers, nearest first."""
    low = math.floor(ratio)
    return sorted((low, low + 1), key=lambda factor: abs(factor - ratio))
