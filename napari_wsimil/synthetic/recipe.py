"""Recipe of a synthetic slide, with validation of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Kinds of lesion: large pleomorphic nuclei, sheets of small blue cells, mucin and necrosis.
KINDS = ("A", "B", "C")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless `low` ≤ `value` ≤ `high`."""
    if not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value!r}")


def check_whole(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {value!r}")


def check_shares(name: str, shares: object, known: tuple[str, ...]) -> None:
    """Raise ValueError unless `shares` maps known names to 0…1."""
    if not isinstance(shares, Mapping):
        raise ValueError(f"{name} must be a table of names and shares, not {shares!r}")
    for key, share in shares.items():
        if key not in known:
            raise ValueError(f"{name} must contain only {', '.join(known)}, not {key!r}")
        check_range(f"{name}[{key!r}]", share, 0, 1)


@dataclass(frozen=True)
class SlideRecipe:
    """Recipe of a synthetic slide.

    The same recipe gives a file of the same bytes.

    Attributes
    ----------
    width, height
        Size in level-0 pixels, 64 to 200,000.
    seed
        Seed of shapes, positions and stains.
    mpp
        µm per level-0 pixel.
    lesions
        Share of tissue covered by each kind of lesion; kinds are in `KINDS`.
    pieces
        Number of pieces of tissue.
    gland_share, lymphoid_share
        Share of the slide with glands and with dense lymphocytes, before clipping to tissue.
    folds, pen_marks
        Number of artifacts of each kind.
    stain_variation
        0 for equal stains on all slides, 1 for the variation between several laboratories.
    tile
        Side of a stored tile in pixels, a multiple of 16, up to 512.
    step
        Downsample between consecutive levels, 2 or 4.
    quality
        JPEG quality, 1 to 100.
    """

    width: int = 8192
    height: int = 8192
    seed: int = 0
    mpp: float = 0.5
    lesions: Mapping[str, float] = field(default_factory=lambda: {"A": 0.06})
    pieces: int = 2
    gland_share: float = 0.4
    lymphoid_share: float = 0.06
    folds: int = 1
    pen_marks: int = 1
    stain_variation: float = 1.0
    tile: int = 256
    step: int = 2
    quality: int = 80

    def __post_init__(self) -> None:
        for name in ("width", "height", "seed", "pieces", "folds", "pen_marks", "tile", "quality"):
            check_whole(name, getattr(self, name))
        for name, (low, high) in _RANGES.items():
            check_range(name, getattr(self, name), low, high)
        if self.tile % 16:
            raise ValueError(f"tile must be a multiple of 16, not {self.tile}")
        if self.step not in (2, 4):
            raise ValueError(f"step must be 2 or 4, not {self.step!r}")
        check_shares("lesions", self.lesions, KINDS)
        for kind, share in self.lesions.items():
            check_range(f"lesions[{kind!r}]", share, 0.001, 0.6)
        check_range("the sum of lesions", sum(self.lesions.values()), 0, 0.6)


_RANGES: dict[str, tuple[float, float]] = {
    "width": (64, 200_000),
    "height": (64, 200_000),
    "seed": (0, 2**63 - 1),
    "mpp": (0.2, 4),
    "pieces": (1, 12),
    "gland_share": (0, 0.95),
    "lymphoid_share": (0, 0.95),
    "folds": (0, 50),
    "pen_marks": (0, 50),
    "stain_variation": (0, 2),
    "tile": (16, 512),
    "quality": (1, 100),
}
