"""Pixel encoders: networks from pixels to features that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from napari_wsimil.features.encoders.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    read_weights,
    timm_names,
)
from napari_wsimil.features.encoders.timm import import_timm

if TYPE_CHECKING:
    from torch import Tensor


class SmallCNN(nn.Module):
    """Three convolutions with group normalization, then the mean over the places.

    Takes (B, 3, S, S) pixels from 0 to 1, gives (B, dim). For processors without a GPU.

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
        places: Tensor = self.layer3(self.layer2(self.layer1(2 * pixels - 1)))
        return places.mean(dim=(2, 3))


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1),
        nn.GroupNorm(4, outside),
        nn.ReLU(),
    )


class ResNet50(nn.Module):
    """A ResNet-50 up to its third stage, as the paper fine-tunes it: (B, 3, S, S) → (B, 1024).

    The paper freezes "trunk.conv1", "trunk.bn1", "trunk.layer1" and "trunk.layer2" and
    trains "trunk.layer3".

    Parameters
    ----------
    weights
        File of a ResNet-50, safetensors or a PyTorch file of tensors only; None draws new
        ones. Nothing is downloaded.

    Raises
    ------
    ValueError
        If timm is missing, or the file lacks tensors or has them in other shapes.
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
        raise ValueError(f"{weights}: does not fit a ResNet-50: {error}") from error
    if missing:
        raise ValueError(f"{weights}: lacks {', '.join(missing[:8])}: is this a ResNet-50?")
