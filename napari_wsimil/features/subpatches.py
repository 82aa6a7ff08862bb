"""Sub-patch features, read and encoded on demand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import finalize

import numpy as np
import torch

from napari_wsimil.features.encoders.base import encoder_name, onnx_hint
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide


class FineFeatures:
    """Features of a patch's sub-patches, computed when called.

    Called with a patch index, it returns the (k, D) features of its k = side² sub-patches.

    Sub-patches are ordered column by column, as in the public release of SASHA: sub-patch j has
    its top-left corner at (x + (j // side) · step, y + (j % side) · step), with (x, y) that of
    the patch and step = patch_size / side, all in level-0 pixels.

    Parameters
    ----------
    slide, grid, encoder
        Slide, its patches, and the encoder of their sub-patches; each sub-patch is read at
        the encoder's input size.
    side
        Number of sub-patches along a patch's side.

    Attributes
    ----------
    calls
        Number of images encoded so far. Nothing is cached: requesting a patch twice encodes
        it twice.

    Raises
    ------
    ValueError
        If the patches cannot be divided into whole pixels.
    """

    def __init__(self, slide: Slide, grid: PatchGrid, encoder: PatchEncoder, side: int = 4) -> None:
        if side < 1 or grid.patch_size % side:
            raise ValueError(
                f"patches of {grid.patch_size} level-0 px cannot be divided into {side} whole "
                "parts a side"
            )
        self.calls = 0
        self._slide = slide
        self._grid = grid
        self._encoder = encoder
        self._side = side

    @property
    def mpp(self) -> float | None:
        """µm per pixel of encoded sub-patches, or None if unknown."""
        if self._grid.mpp is None:
            return None
        level0 = self._grid.mpp * self._grid.pixels / self._grid.patch_size
        return level0 * self._step / self._encoder.card.pixels

    def __call__(self, patch: int) -> Tensor:
        """Return (k, D) float32."""
        pixels = self._encoder.card.pixels
        images = [self._slide.read_patch(x, y, self._step, pixels) for x, y in self.corners(patch)]
        self.calls += len(images)
        parts = torch.from_numpy(np.stack(images)).split(self._encoder.largest_batch)
        return torch.cat([self._encoder(part) for part in parts])

    def corners(self, patch: int) -> list[tuple[int, int]]:
        """Return sub-patch corners (x, y) in level-0 pixels."""
        x, y = self._grid.coords[patch].tolist()
        along = range(0, self._side * self._step, self._step)
        return [(x + right, y + down) for right in along for down in along]

    @property
    def _step(self) -> int:
        return self._grid.patch_size // self._side


class OwnFineFeatures(FineFeatures):
    """Sub-patch features that own and close their slide.

    Parameters
    ----------
    slide, grid, encoder, side
        As in `FineFeatures`. Nothing else may close the slide.

    Attributes
    ----------
    close
        Closes the slide when called, or once the object is no longer referenced.
    """

    def __init__(self, slide: Slide, grid: PatchGrid, encoder: PatchEncoder, side: int) -> None:
        self.close = finalize(self, slide.close)
        super().__init__(slide, grid, encoder, side)


def with_finer(bag: Bag, slide: Slide, encoder: PatchEncoder, side: int = 4) -> Bag:
    """Return the bag with sub-patch features of its slide.

    Nothing is read until a patch is requested.

    Raises
    ------
    ValueError
        If the bag has no coordinates, or its features are of another encoder or slide: both
        resolutions need the same feature space.
    """
    finer = FineFeatures(slide, _checked_grid(bag, slide, encoder), encoder, side)
    return replace(bag, finer=finer, reading=bag.reading.of(slide.reading))


def own_finer(
    bag: Bag, slide: Slide, encoder: PatchEncoder, cache_bytes: int, side: int = 4
) -> OwnFineFeatures:
    """Open the slide again for a bag's sub-patch features.

    They do not depend on `slide` and do not evict tiles from its cache. `cache_bytes` is the
    cache size of the second opening.

    Raises
    ------
    SlideError
        If the file can no longer be opened.
    ValueError
        As `with_finer`, and if the file was replaced by another slide.
    """
    grid = _checked_grid(bag, slide, encoder)
    own = open_slide(slide.path, slide.resolution.mpp, cache_bytes)
    fine = OwnFineFeatures(own, grid, encoder, side)
    if own.fingerprint != slide.fingerprint:
        fine.close()
        raise ValueError(
            f"{slide.path.name} was replaced by another slide since it was opened: open it again"
        )
    return fine


def owning_finer(bag: Bag, slide: Slide, encoder: PatchEncoder, side: int = 4) -> OwnFineFeatures:
    """Return sub-patch features that own `slide` and close it.

    Errors are those of `with_finer`.
    """
    return OwnFineFeatures(slide, _checked_grid(bag, slide, encoder), encoder, side)


def _checked_grid(bag: Bag, slide: Slide, encoder: PatchEncoder) -> PatchGrid:
    """Return a bag's grid if slide and encoder match."""
    if bag.grid is None:
        raise ValueError("the bag has no coordinates: sub-patches cannot be read")
    if bag.encoder != encoder.card.identity:
        raise ValueError(
            f"the bag's features are of {encoder_name(bag.encoder)}, not of "
            f"{encoder_name(encoder.card.identity)}: use one encoder for patches and "
            "sub-patches" + onnx_hint(bag.encoder, encoder.card.identity)
        )
    if bag.slide and bag.slide != slide.fingerprint:
        raise ValueError(f"the bag's features are of another slide than {slide.name}")
    return bag.grid
