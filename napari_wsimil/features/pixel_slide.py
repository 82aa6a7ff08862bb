"""PixelSlide: the patches of a slide as pixels, read when they are needed."""

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
