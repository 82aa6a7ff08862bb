"""PixelSlide: the patches of a slide as pixels, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.learning.cases import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide


@dataclass(frozen=True, eq=False)
class PixelSlide:
    """The patches of a slide.

    Attributes
    ----------
    name
        Fingerprint of the slide, or what it is called.
    count
        N, how many patches it has.
    read
        Returns the (n, S, S, 3) uint8 pixels of (n,) int64 patches.
    grid
        Where they lie; None if that is not known.
    synthetic
        True for a phantom.
    """

    name: str
    count: int
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    grid: PatchGrid | None = None
    synthetic: bool = True

    def __len__(self) -> int:
        return self.count

    def pixels(self, index: Tensor) -> Tensor:
        """Return (n, 3, S, S) uint8 pixels of (n,) int64 patches.

        Raises
        ------
        ValueError
            If what was read are no such patches.
        """
        patches = self.read(index.cpu().numpy())
        n, side = len(index), patches.shape[1]
        if patches.dtype != np.uint8 or patches.shape != (n, side, side, 3):
            raise ValueError(
                f"{self.name}: patches must be uint8 of shape ({n}, S, S, 3), "
                f"not {patches.dtype} of {patches.shape}"
            )
        return torch.from_numpy(patches).permute(0, 3, 1, 2)


def slide_pixels(slide: Slide, grid: PatchGrid) -> PixelSlide:
    """Return the patches of a slide on a grid, read from the file one by one when asked for."""

    def read(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        side = grid.pixels
        corners = grid.coords[index]
        return np.stack(
            [slide.read_patch(int(x), int(y), grid.patch_size, side) for x, y in corners]
        )

    return PixelSlide(slide.fingerprint, len(grid), read, grid, slide.synthetic)


def pixel_case(
    patient: str, slides: Sequence[PixelSlide], chosen: Sequence[Tensor], target: int
) -> Case:
    """Return a case whose bags are the pixels of chosen patches, read at each use.

    Parameters
    ----------
    slides, chosen
        The patient's slides, and of each the (K,) int64 patches to learn from.
    """
    return Case(patient, _ChosenPixels(slides, chosen), target)


class _ChosenPixels(Sequence[Bag]):
    def __init__(self, slides: Sequence[PixelSlide], chosen: Sequence[Tensor]) -> None:
        if len(slides) != len(chosen):
            raise ValueError(f"{len(slides)} slides, but patches were chosen of {len(chosen)}")
        self._slides = slides
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._slides)

    @overload
    def __getitem__(self, number: int) -> Bag: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Bag]: ...
    def __getitem__(self, number: int | slice) -> Bag | Sequence[Bag]:
        if isinstance(number, slice):
            return _ChosenPixels(self._slides[number], self._chosen[number])
        pixels = self._slides[number].pixels(self._chosen[number])
        return Bag(pixels.flatten(1).float() / 255)
