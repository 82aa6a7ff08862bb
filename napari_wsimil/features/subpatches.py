"""FineFeatures: the sub-patches of a patch, read and encoded when they are asked for."""

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
    """Index of a patch → (k, D) features of its k = side² sub-patches.

    Sub-patches come column by column, as in the public release of SASHA: sub-patch j has
    its top-left corner at (x + (j // side) · step, y + (j % side) · step), with (x, y) that of
    the patch and step = patch_size / side, all in level-0 pixels.

    Parameters
    ----------
    slide, grid, encoder
        What is read, where the patches lie, and what encodes their sub-patches, each at as
        many pixels as the encoder wants.
    side
        Sub-patches along a patch's side.

    Attributes
    ----------
    calls
        Images that the encoder has seen so far. Nothing is remembered: asking twice for a
        patch costs twice.

    Raises
    ------
    ValueError
        If the patches cannot be divided into whole pixels.
    """

    def __init__(self, slide: Slide, grid: PatchGrid, encoder: PatchEncoder, side: int = 4) -> None:
        if side < 1 or grid.patch_size % side:
            raise ValueError(
                f"patches of {grid.patch_size} level-0 pixels have no {side} whole parts a side"
            )
        self.calls = 0
        self._slide = slide
        self._grid = grid
        self._encoder = encoder
        self._side = side

    @property
    def mpp(self) -> float | None:
        """Return the µm per pixel at which the encoder sees a sub-patch, if it is known."""
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
        """Return the (x, y) corners of a patch's sub-patches, in level-0 pixels."""
        x, y = self._grid.coords[patch].tolist()
        along = range(0, self._side * self._step, self._step)
        return [(x + right, y + down) for right in along for down in along]

    @property
    def _step(self) -> int:
        return self._grid.patch_size // self._side


class OwnFineFeatures(FineFeatures):
    """Fine features that own the open slide which they are read from.

    Parameters
    ----------
    slide, grid, encoder, side
        As of `FineFeatures`. Nothing else may close the slide.

    Attributes
    ----------
    close
        Closes the slide when called, and once the features are no longer referenced.
    """

    def __init__(self, slide: Slide, grid: PatchGrid, encoder: PatchEncoder, side: int) -> None:
        self.close = finalize(self, slide.close)
        super().__init__(slide, grid, encoder, side)


def with_finer(bag: Bag, slide: Slide, encoder: PatchEncoder, side: int = 4) -> Bag:
    """Return the bag with the sub-patches of its slide as finer features, none read yet.

    Raises
    ------
    ValueError
        If the bag has no places, or another encoder or slide made its features: both
        resolutions must be in one space.
    """
    finer = FineFeatures(slide, _places(bag, slide, encoder), encoder, side)
    return replace(bag, finer=finer, reading=bag.reading.of(slide.reading))


def own_finer(
    bag: Bag, slide: Slide, encoder: PatchEncoder, cache_bytes: int, side: int = 4
) -> OwnFineFeatures:
    """Return a bag's fine features, read from a second opening of the slide's file.

    They do not depend on `slide` and leave the tiles in its cache alone. `cache_bytes` is the
    byte budget of the second opening.

    Raises
    ------
    SlideError
        If the file cannot be opened any more.
    ValueError
        As `with_finer`, and if the file now holds another slide.
    """
    grid = _places(bag, slide, encoder)
    own = open_slide(slide.path, slide.resolution.mpp, cache_bytes)
    fine = OwnFineFeatures(own, grid, encoder, side)
    if own.fingerprint != slide.fingerprint:
        fine.close()
        raise ValueError(f"{slide.path.name} is another slide than when it was opened")
    return fine


def owning_finer(bag: Bag, slide: Slide, encoder: PatchEncoder, side: int = 4) -> OwnFineFeatures:
    """Return a bag's fine features, which own `slide` and close it; errors as of `with_finer`."""
    return OwnFineFeatures(slide, _places(bag, slide, encoder), encoder, side)


def _places(bag: Bag, slide: Slide, encoder: PatchEncoder) -> PatchGrid:
    """Return where the patches of a bag lie, once it is sure that they lie on the slide."""
    if bag.grid is None:
        raise ValueError("the bag has no places, so there is nowhere to look closer")
    if bag.encoder != encoder.card.identity:
        raise ValueError(
            f"the bag's features are of {encoder_name(bag.encoder)}, not of "
            f"{encoder_name(encoder.card.identity)}: both "
            "resolutions need the same encoder" + onnx_hint(bag.encoder, encoder.card.identity)
        )
    if bag.slide and bag.slide != slide.fingerprint:
        raise ValueError(f"the bag's features are of another slide than {slide.name}")
    return bag.grid
