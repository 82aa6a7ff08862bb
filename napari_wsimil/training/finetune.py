"""Fine-tuning of an image encoder with slide labels.

The stages are those of VIB (Li et al., CVPR 2023): `encode` the patches of all slides
without gradient; fit a bottleneck on the features and select patches with it
(`VIB.select`); `finetune` the encoder and a head on the pixels of the selected patches;
`encode` again and fit any model.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.utils.checkpoint import checkpoint

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.progress import Progress
from napari_wsimil.training.fit import FitConfig, TrainingError, fit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from napari_wsimil.features.case import Case
    from napari_wsimil.features.pixel_slide import PixelSlide
    from napari_wsimil.progress import Work
    from napari_wsimil.training.fit import Epoch

BATCH = 128  # patches in one call of the encoder
BRIGHTNESS = CONTRAST = (0.8, 1.2)  # factors drawn for each patch
CONFIG = FitConfig(epochs=10, lr=1e-3, weight_decay=1e-3, drop=0.0, noise=0.0, standardize=False)


class EndToEnd(MILModel):
    """Encoder and head as one model of pixels.

    Its bags are those of `pixel_case`, (K, 3·S·S) from 0 to 1. It is not a registered model:
    encoder and head are stored separately. In training, patches are rotated, mirrored and
    changed in brightness and contrast; the encoder stays in eval mode, which preserves its
    batch statistics.

    Parameters
    ----------
    encoder
        (B, 3, S, S) pixels from 0 to 1 → (B, D).
    head
        Any model of D-wide features.
    pixels
        S, the side of a patch.
    batch
        Largest number of patches in a call of the encoder. For larger bags each call is
        recomputed for its gradient, so that memory does not grow with K.
    """

    def __init__(
        self, *, encoder: nn.Module, head: MILModel, pixels: int, batch: int = BATCH
    ) -> None:
        super().__init__(feature_dim=3 * pixels**2, classes=head.classes)
        self.encoder = encoder
        self.head = head
        self.pixels = pixels
        self.batch = batch

    def train(self, mode: bool = True) -> EndToEnd:
        """Set the training mode of the head.

        The encoder stays in eval mode.
        """
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, bag: Bag) -> MILOutput:
        """Encode the patches; return the output of the head."""
        self.check(bag)
        self.head.progress = self.progress
        pixels = bag.features.to(_device(self.encoder))
        x = pixels.view(-1, 3, self.pixels, self.pixels)  # (K, 3, S, S)
        if self.training:
            x = augmented(x)
        h = self._encode(x)  # (K, D)
        if not torch.isfinite(h).all():
            raise TrainingError(
                "the encoder's features became NaN or infinite: train again with a lower "
                "learning rate; the best weights before it were kept"
            )
        output: MILOutput = self.head(replace(bag, features=h))
        return output

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return the loss terms of the head."""
        return self.head.loss(output, target)

    def pool(self, outputs: Sequence[MILOutput]) -> MILOutput:
        """Return the head's output for a patient."""
        return self.head.pool(outputs)

    def _encode(self, x: Tensor) -> Tensor:
        parts = x.split(self.batch)
        if len(parts) == 1:
            h: Tensor = self.encoder(x)
            return h
        return torch.cat([checkpoint(self.encoder, part, use_reentrant=False) for part in parts])


def finetune(
    model: EndToEnd,
    train: Sequence[Case],
    validation: Sequence[Case] = (),
    config: FitConfig = CONFIG,
    frozen: Sequence[str] = (),
) -> Work[Epoch]:
    """Train encoder and head in place by `fit`.

    Only the selected patches are read and have a gradient. At the end, also if closed or
    failed, encoder and head have the best weights so far.

    Parameters
    ----------
    model
        Encoder and head; a head that was trained on the encoder's features gives useful
        gradients from the first step.
    train, validation
        Cases made by `pixel_case`.
    config
        Training settings; `noise` and `shift` must be 0 and `standardize` False, since
        pixels have their own augmentation.
    frozen
        Names of the encoder's parts that are not trained, such as "conv1" or "layer1".

    Raises
    ------
    TrainingError
        As `fit`.
    ValueError
        As `fit`; if the encoder has no such part, or the settings are for features.
    """
    if config.noise or config.shift or config.standardize:
        raise ValueError("noise and shift must be 0 and standardize False: the bags are pixels")
    with _frozen([_part(model.encoder, name) for name in frozen]):
        return (yield from fit(model, train, validation, config))


def encode(
    encoder: nn.Module, slides: Sequence[PixelSlide], batch: int = BATCH
) -> Work[tuple[Bag, ...]]:
    """Encode all patches of slides; yield after each slide.

    Returns one bag per slide. The encoder is in eval mode, without gradients, only during
    the computation; `batch` patches are read and encoded at a time.
    """
    name = identity(encoder)
    bags = []
    for done, slide in enumerate(slides, 1):
        features = _encoded(encoder, slide, batch)
        bags.append(Bag(features, name, slide.grid, synthetic=slide.synthetic, slide=slide.name))
        yield Progress(done, len(slides), "encode")
    return tuple(bags)


def identity(encoder: nn.Module) -> str:
    """Return an encoder's class name and hash of weights."""
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return f"{type(encoder).__name__}@{digest.hexdigest()[:16]}"


def augmented(x: Tensor) -> Tensor:
    """Return (K, 3, S, S) patches with random augmentation.

    Each patch is rotated, mirrored and changed in brightness and contrast at random.
    """
    turns = torch.randint(8, (len(x),)).to(x.device)  # half of them mirrored
    x = x.clone()
    for turn in range(1, 8):
        mask = turns == turn
        patches = x[mask].flip(3) if turn >= 4 else x[mask]
        x[mask] = patches.rot90(turn % 4, dims=(2, 3))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * _factors(x, CONTRAST) + mean * _factors(x, BRIGHTNESS)).clamp(0, 1)


def _factors(x: Tensor, limits: tuple[float, float]) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(len(x), 1, 1, 1).to(x.device)


@torch.no_grad()
def _encoded(encoder: nn.Module, slide: PixelSlide, batch: int) -> Tensor:
    device, training = _device(encoder), encoder.training
    encoder.eval()
    try:
        parts = [
            encoder(slide.pixels(index).to(device).float() / 255).float().cpu()
            for index in torch.arange(len(slide)).split(batch)
        ]
    finally:
        encoder.train(training)
    return torch.cat(parts)


def _device(encoder: nn.Module) -> torch.device:
    return next(encoder.parameters()).device


def _part(encoder: nn.Module, name: str) -> nn.Module:
    parts: dict[str, nn.Module] = dict(encoder.named_modules())
    if name not in parts:
        top = ", ".join(part for part, _ in encoder.named_children())
        raise ValueError(f'the encoder has no part "{name}": its parts are {top}')
    return parts[name]


@contextmanager
def _frozen(parts: Sequence[nn.Module]) -> Iterator[None]:
    """Disable gradients of the parameters of `parts` within the context."""
    trainable = [p for part in parts for p in part.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
