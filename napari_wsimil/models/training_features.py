"""TrainingFeatures: ranges, statistics and hashes of training features."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.features.bag_facts import BagFacts

#: Share by which a slide's µm per pixel may differ from the training's.
MPP_TOLERANCE = 0.1
#: Factor from which longer or shorter features than in training cause a warning.
NORM_FACTOR = 3.0
#: Smallest bag with a meaningful spread, in patches.
FEWEST_PATCHES = 16


class TrainingFeatures(BaseModel):
    """Features of the slides in training and validation.

    Attributes
    ----------
    slides
        Number of slides.
    mpp, pixels
        Lowest and highest µm per pixel and side in pixels; None where no bag states it.
    unknown_mpp
        Number of slides with places but without µm per pixel.
    norm, spread
        Lowest, median and highest `BagFacts.norm` and `BagFacts.spread` of the slides.
    known
        Salted short hashes of the features, of the slides' fingerprints and of TCGA
        barcodes, see `Card.salt`. They identify features under another name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slides: int = Field(ge=1)
    mpp: tuple[float, float] | None = None
    pixels: tuple[int, int] | None = None
    unknown_mpp: int = Field(default=0, ge=0)
    norm: tuple[float, float, float]
    spread: tuple[float, float, float]
    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Sequence[BagFacts], known: Sequence[str] = ()) -> Self:
        """Return ranges and statistics of one or more bags."""
        mpp = [one.mpp for one in facts if one.mpp is not None]
        pixels = [one.pixels for one in facts if one.pixels is not None]
        return cls(
            slides=len(facts),
            mpp=(min(mpp), max(mpp)) if mpp else None,
            pixels=(min(pixels), max(pixels)) if pixels else None,
            unknown_mpp=len(pixels) - len(mpp),
            norm=_range([one.norm for one in facts]),
            spread=_range([one.spread for one in facts]),
            known=tuple(sorted(set(known))),
        )

    def admits_mpp(self, mpp: float) -> bool:
        """Return whether µm per pixel is within range and tolerance."""
        if self.mpp is None:
            return True
        low, high = self.mpp
        return low * (1 - MPP_TOLERANCE) <= mpp <= high * (1 + MPP_TOLERANCE)

    def admits_pixels(self, pixels: int) -> bool:
        """Return whether a patch size is within the training's range."""
        return self.pixels is None or self.pixels[0] <= pixels <= self.pixels[1]

    def remarks(self, norm: float, spread: float, patches: int) -> tuple[str, ...]:
        """Return a sentence for each statistic far from training.

        Parameters
        ----------
        norm, spread
            As in `BagFacts`.
        patches
            Number of patches of the bag.
        """
        notes = []
        low, middle, high = self.norm
        if high > 0 and not low / NORM_FACTOR <= norm <= high * NORM_FACTOR:
            notes.append(
                f"features have a median length of {norm:.4g}, those of training had "
                f"{low:.4g} to {high:.4g} (median {middle:.4g}): check the features file"
            )
        enough = patches >= FEWEST_PATCHES
        if enough and spread < self.spread[0] / (10 * NORM_FACTOR):
            notes.append(
                f"features hardly differ between patches (spread {spread:.3g}, in training "
                f"at least {self.spread[0]:.3g}): check the features file"
            )
        return tuple(notes)


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), median(values), max(values)
