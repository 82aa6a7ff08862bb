"""Tissue detection: tissue against glass, dust and ink."""

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

#: Limits of Otsu's threshold on chroma: a lower one would accept glass as tissue, a higher one
#: would split a field that is full of tissue.
CHROMA_LIMITS = (0.05, 0.09)
#: Minimum chroma of colored ink, which is at least as green as red, unlike stained tissue.
INK_CHROMA = 0.2
#: Maximum brightness and chroma of black ink.
BLACK_INK = (0.35, 0.12)
#: Minimum area in mm² of pieces and holes; smaller ones are removed and filled.
SMALLEST_MM2 = (0.02, 0.02)
#: The same as shares of the image, used if the pixel size is unknown.
SMALLEST_SHARE = (2e-4, 2e-4)


@dataclass(frozen=True)
class Tissue:
    """Mask of the tissue of a slide.

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
        """Return tissue shares of patches, (N,), 0 to 1.

        Mask pixels at a patch's border count by their area inside the patch.

        Parameters
        ----------
        coords
            (N, 2) top-left corners in level-0 pixels.
        patch_size
            Side in level-0 pixels.
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
        """Return tissue areas above and left of mask positions."""
        at = np.stack([y, x])
        area: NDArray[np.float64] = ndimage.map_coordinates(
            self._integral, at, order=1, mode="nearest"
        )
        return area

    @cached_property
    def _integral(self) -> NDArray[np.float64]:
        return np.pad(self.mask, ((1, 0), (1, 0))).cumsum(0).cumsum(1).astype(np.float64)


def find_tissue(slide: Slide, max_side: int = 2048) -> Tissue:
    """Detect tissue on a thumbnail of at most `max_side` pixels.

    Stain has color and glass has none: a pixel is tissue if its chroma (maximum minus
    minimum of red, green and blue) exceeds Otsu's threshold (Otsu 1979), clipped to
    `CHROMA_LIMITS`. Blue, green and black ink is excluded, small pieces are removed and
    small holes filled. A slide without tissue gives an empty mask.
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
    """Return a mask of ink: cores with pale rims."""
    red, green, _ = np.moveaxis(picture, 2, 0)
    chroma, brightness = np.ptp(picture, axis=2), picture.max(axis=2)
    greenish = red <= green
    black = (brightness < BLACK_INK[0]) & (chroma < BLACK_INK[1])
    core = ndimage.binary_opening((greenish & (chroma > INK_CHROMA)) | black, iterations=1)
    faint = greenish & (chroma > CHROMA_LIMITS[0])
    ink = ndimage.binary_propagation(core, mask=core | faint)
    return np.asarray(ndimage.binary_dilation(ink, iterations=3))


def _smallest(pixels: int, downsample: float, mpp: float | None) -> tuple[float, float]:
    """Return minimum areas of pieces and holes in thumbnail pixels."""
    if mpp is None:
        return SMALLEST_SHARE[0] * pixels, SMALLEST_SHARE[1] * pixels
    pixel_mm2 = (downsample * mpp / 1000) ** 2
    return SMALLEST_MM2[0] / pixel_mm2, SMALLEST_MM2[1] / pixel_mm2


def _drop_small(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Remove 4-connected pieces of fewer than `least` pixels."""
    pieces, _ = ndimage.label(mask)
    keep = np.bincount(pieces.ravel()) >= least
    keep[0] = False
    return np.asarray(keep[pieces])
