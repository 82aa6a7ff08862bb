"""Pixels of selected patches, and image encoders, for fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import numpy as np
import torch
from torch import nn

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.features.encoders.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    read_weights,
    timm_names,
)
from napari_wsimil.features.encoders.timm import import_timm
from napari_wsimil.features.pixel_slide import PixelSlide

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide


def slide_pixels(slide: Slide, grid: PatchGrid) -> PixelSlide:
    """Return the patches of a slide as pixels.

    Each patch is read from the file at access.
    """

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
    """Return a case with bags of pixels of selected patches.

    The pixels are read from the slides at each access.

    Parameters
    ----------
    slides, chosen
        The patient's slides, and (K,) int64 indices of the selected patches of each.
    """
    return Case(patient, _ChosenPixels(slides, chosen), target)


class _ChosenPixels(Sequence[Bag]):
    def __init__(self, slides: Sequence[PixelSlide], chosen: Sequence[Tensor]) -> None:
        if len(slides) != len(chosen):
            raise ValueError(f"{len(slides)} slides, but patches were selected for {len(chosen)}")
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


class SmallCNN(nn.Module):
    """Three convolutions with group normalization and average pooling.

    (B, 3, S, S) pixels from 0 to 1 → (B, dim). Small enough to train without a GPU.

    Parameters
    ----------
    dim
        D, divisible by 4.
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.layer1 = _block(3, dim // 2)
        self.layer2 = _block(dim // 2, dim)
        self.layer3 = _block(dim, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, D) features."""
        maps: Tensor = self.layer3(self.layer2(self.layer1(2 * pixels - 1)))
        return maps.mean(dim=(2, 3))


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1),
        nn.GroupNorm(4, outside),
        nn.ReLU(),
    )


class ResNet50(nn.Module):
    """A ResNet-50 up to its third stage, as in VIB.

    (B, 3, S, S) pixels from 0 to 1 → (B, 1024).
    The paper freezes "trunk.conv1", "trunk.bn1", "trunk.layer1" and "trunk.layer2" and
    trains "trunk.layer3".

    Parameters
    ----------
    weights
        File of a ResNet-50, safetensors or a PyTorch file of tensors only; None draws random
        weights. Nothing is downloaded.

    Raises
    ------
    ValueError
        If timm is missing, or tensors in the file are missing or have other shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | str | None = None) -> None:
        weights = None if weights is None else Path(weights)
        super().__init__()
        timm = import_timm()
        self.trunk = cast("nn.Module", timm.create_model("resnet50", num_classes=0))
        self.trunk.layer4 = nn.Identity()
        if weights is not None:
            _load(self.trunk, weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (B, 1024) features of pixels from 0 to 1."""
        features: Tensor = self.trunk((pixels - self.mean) / self.std)
        return features


def _load(trunk: nn.Module, weights: Path) -> None:
    try:
        missing, _ = trunk.load_state_dict(timm_names(read_weights(weights)), strict=False)
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit a ResNet-50: {error}") from error
    if missing:
        raise ValueError(
            f"{weights} lacks {', '.join(missing[:8])}: give the weights of a ResNet-50"
        )
