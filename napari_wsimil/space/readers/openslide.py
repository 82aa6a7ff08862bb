"""Reader over OpenSlide: MIRAX, DICOM, Hamamatsu, Leica and whatever tiffslide leaves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import openslide

from napari_wsimil.space.geometry import (
    Level,
    MppSource,
    SlideError,
    stated_resolution,
)
from napari_wsimil.space.readers.content import content_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

_TILE = (512, 512)
#: The side of a level above which a header is not believed.
_MAX_SIDE = 2**24


class OpenSlideReader:
    """Tiles of whatever OpenSlide opens; a folder stands for its DICOM series."""

    def __init__(self, path: Path) -> None:
        self._path = path
        file = _first_dicom(path) if path.is_dir() else path
        try:
            self._slide = openslide.OpenSlide(file)
        except openslide.OpenSlideError as error:
            raise SlideError(f"OpenSlide says: {error}") from error
        stated = self._slide.properties
        sizes = zip(self._slide.level_dimensions, self._slide.level_downsamples, strict=True)
        self.levels = tuple(Level(*size, downsample, _TILE) for size, downsample in sizes)
        if any(not 0 < side <= _MAX_SIDE for side in self._slide.dimensions):
            self.close()
            raise SlideError(f"a slide of {self._slide.dimensions} px is not plausible")
        self.vendor = stated.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        x, y = (float(stated[name]) if name in stated else None for name in names)
        derived = self.vendor == "generic-tiff"
        source = MppSource.DERIVED if derived else MppSource.HEADER
        self.resolution = stated_resolution(x, y, source)
        self.properties: Mapping[str, str] = dict(stated)
        self.associated = tuple(self._slide.associated_images)
        self.identity = stated.get("openslide.quickhash-1", "") or content_digest(file)

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        size = self.levels[level]
        x, y = column * _TILE[0], row * _TILE[1]
        shape = (min(_TILE[0], size.width - x), min(_TILE[1], size.height - y))
        origin = (math.floor(x * size.downsample + 0.5), math.floor(y * size.downsample + 0.5))
        try:
            return _on_white(self._slide.read_region(origin, level, shape))
        except openslide.OpenSlideError as error:
            where = f"{self._path.name}: level {level}, tile ({column}, {row})"
            raise SlideError(f"{where} cannot be read ({error})") from error

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        return _on_white(self._slide.associated_images[name])

    def close(self) -> None:
        self._slide.close()


def _first_dicom(folder: Path) -> Path:
    files = sorted(folder.glob("*.dcm"))
    if not files:
        raise SlideError(f"the folder {folder.name} holds no DICOM files (*.dcm)")
    return files[0]


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    """Return RGB of an RGBA image laid on white: nothing was scanned where it is clear."""
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blend = rgba[..., :3].astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha)
    out: NDArray[np.uint8] = ((blend + 127) // 255).astype(np.uint8)
    return out
