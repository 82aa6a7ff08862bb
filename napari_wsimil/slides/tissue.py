"""Tissue: which part of a slide is tissue, and not glass, dust or ink."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.slides.slide import Slide

#: Otsu's threshold on chroma is held between these: below, glass would pass for tissue;
#: above, a field full of tissue would be cut in two.
CHROMA_LIMITS = (0.05, 0.09)
#: Ink is as green as red or greener, which stained tissue is not, and strongly colored …
INK_CHROMA = 0.2
#: … or dark and without color.
BLACK_INK = (0.35, 0.12)
#: Pieces and holes smaller than this are dropped and filled, in mm² …
SMALLEST_MM2 = (0.02, 0.02)
#: … or as shares of the picture where the pixel size is unknown.
SMALLEST_SHARE = (2e-4, 2e-4)


@dataclass(frozen=True)
class Tissue:
    """The part of a slide that is tissue.

    Attributes
    ----------
    mask
        (rows, columns) bool, True on tissue.
    downsample
        Level-0 pixels per pixel of the mask, a real number.
    mpp
        µm per level-0 pixel; None if unknown.
    """

    mask: NDArray[np.bool_]
    downsample: float
    mpp: float | None = None

    @property
    def area_mm2(self) -> float | None:
        """Area in mm²; None if the pixel size is unknown."""
        if self.mpp is None:
            return None
        return float(self.mask.sum() * (self.downsample * self.mpp / 1000) ** 2)

    def share(self, coords: NDArray[np.int64], patch_size: int) -> NDArray[np.float64]:
        """Return (N,) shares of the patches' areas that are tissue, 0 to 1.

        `coords` are (N, 2) top-left corners and `patch_size` the side, in level-0 pixels;
        pixels of the mask that a patch cuts count by the area they have in it.
        """
        left, top = coords.T / self.downsample
        side = patch_size / self.downsample
        area = (
            self._area(left + side, top + side)
            - self._area(left, top + side)
            - self._area(left + side, top)
            + self._area(left, top)
        )
        return np.clip(area / side**2, 0, 1).round(9)

    def _area(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the area of tissue above and left of places in pixels of the mask."""
        at = np.stack([y, x])
        area: NDArray[np.float64] = ndimage.map_coordinates(
            self._integral, at, order=1, mode="nearest"
        )
        return area

    @cached_property
    def _integral(self) -> NDArray[np.float64]:
        return np.pad(self.mask, ((1, 0), (1, 0))).cumsum(0).cumsum(1).astype(np.float64)


def find_tissue(slide: Slide, max_side: int = 2048) -> Tissue:
    """Return the tissue seen on a thumbnail with sides up to `max_side` pixels.

    Stain has color and glass has none: chroma (the largest minus the smallest of red,
    green and blue) above Otsu's threshold, which is held within `CHROMA_LIMITS`, is
    tissue (Otsu 1979). Blue, green and black ink is taken away, small pieces are dropped
    and small holes filled. A slide without tissue gives an empty mask.
    """
    picture, downsample = slide.thumbnail(max_side)
    mpp = slide.resolution.mpp
    smallest, hole = _smallest(picture.shape[0] * picture.shape[1], downsample, mpp)
    smooth = ndimage.gaussian_filter(picture.astype(np.float32) / 255, (1, 1, 0))
    mask = _is_stained(smooth) & ~_is_ink(smooth)
    mask = ~_drop_small(~_drop_small(mask, smallest), hole)
    return Tissue(mask, downsample, mpp)


def _is_stained(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    chroma = np.ptp(picture, axis=2)
    if chroma.min() == chroma.max():
        return np.zeros(chroma.shape, dtype=bool)
    otsu: float = threshold_otsu(chroma)  # type: ignore[no-untyped-call]
    return np.asarray(chroma > np.clip(otsu, *CHROMA_LIMITS))


def _is_ink(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where ink is: its strong core, and the paler rim that hangs on the core."""
    red, green, _ = np.moveaxis(picture, 2, 0)
    chroma, brightness = np.ptp(picture, axis=2), picture.max(axis=2)
    greenish = red <= green
    black = (brightness < BLACK_INK[0]) & (chroma < BLACK_INK[1])
    core = ndimage.binary_opening((greenish & (chroma > INK_CHROMA)) | black, iterations=1)
    faint = greenish & (chroma > CHROMA_LIMITS[0])
    ink = ndimage.binary_propagation(core, mask=core | faint)
    return np.asarray(ndimage.binary_dilation(ink, iterations=3))


def _smallest(pixels: int, downsample: float, mpp: float | None) -> tuple[float, float]:
    """Return the smallest piece and hole that stay, in pixels of the thumbnail."""
    if mpp is None:
        return SMALLEST_SHARE[0] * pixels, SMALLEST_SHARE[1] * pixels
    pixel_mm2 = (downsample * mpp / 1000) ** 2
    return SMALLEST_MM2[0] / pixel_mm2, SMALLEST_MM2[1] / pixel_mm2


def _drop_small(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Return the mask without its 4-connected pieces of fewer than `least` pixels."""
    pieces, _ = ndimage.label(mask)
    keep = np.bincount(pieces.ravel()) >= least
    keep[0] = False
    return np.asarray(keep[pieces])
