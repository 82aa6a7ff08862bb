"""Patches of a slide as pixels, read on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid


@dataclass(frozen=True, eq=False)
class PixelSlide:
    """Pixels of a slide's patches, to fine-tune an encoder.

    Attributes
    ----------
    name
        Fingerprint or name of the slide.
    count
        N, the number of patches.
    read
        Callable: (n,) int64 patch indices -> (n, S, S, 3) uint8 pixels.
    grid
        Positions of the patches; None if unknown.
    synthetic
        True for a synthetic slide.
    """

    name: str
    count: int
    read: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    grid: PatchGrid | None = None
    synthetic: bool = True

    def __len__(self) -> int:
        return self.count

    def pixels(self, index: Tensor) -> Tensor:
        """Return (n, 3, S, S) uint8 pixels.

        `index` has the (n,) int64 indices of the patches.

        Raises
        ------
        ValueError
            If `read` returns another shape or dtype.
        """
        patches = self.read(index.cpu().numpy())
        n, side = len(index), patches.shape[1]
        if patches.dtype != np.uint8 or patches.shape != (n, side, side, 3):
            raise ValueError(
                f"{self.name}: patches must be uint8 of shape ({n}, S, S, 3), "
                f"not {patches.dtype} of {patches.shape}"
            )
        return torch.from_numpy(patches).permute(0, 3, 1, 2)
