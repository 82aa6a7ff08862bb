"""PatchEncoder: the contract of everything that turns a patch into numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderCard:
    """What an encoder is, and what it wants to see.

    Attributes
    ----------
    name
        As `create_encoder` takes it.
    sha256
        Hash of its weights, or of its definition where it has none; hexadecimal.
    dim
        D, the numbers it gives for a patch.
    pixels
        Side of a patch in pixels.
    mpp
        µm per pixel it was made for; None if not stated.
    mean, std
        Of red, green and blue from 0 to 1, by which it standardizes pixels.
    license
        Terms of the weights, in a sentence.
    gated
        How to get the weights where their owner must be asked; empty if free.
    notes
        What to know about how the weights were loaded, for people to read.
    """

    name: str
    sha256: str
    dim: int
    pixels: int
    mpp: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    license: str
    gated: str = ""
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Name and hash, the same only for encoders that give the same features."""
        return f"{self.name}@{self.sha256[:16]}"


def require_encoder(made_by: str, wanted: str) -> None:
    """Raise ValueError if features were made by another encoder than a model takes.

    Parameters
    ----------
    made_by, wanted
        Identities; empty where nobody named the encoder.
    """
    if made_by != wanted:
        hint = onnx_hint(made_by, wanted)
        raise ValueError(
            f"the features were made by {encoder_name(made_by)}, this model takes those of "
            f"{encoder_name(wanted)}: extract them again with that encoder{hint}"
        )


def onnx_hint(*identities: str) -> str:
    """Return why two identities of one ONNX encoder may differ; empty for other encoders."""
    if not all(identity.startswith("onnx@") for identity in identities):
        return ""
    return (
        ". Earlier versions left external weight files out of an ONNX encoder's identity: if "
        "it has such files, extract the features anew and train again"
    )


def encoder_name(identity: str) -> str:
    """Return an encoder's identity for messages, also where nobody named it."""
    return f'the encoder "{identity}"' if identity else "an encoder nobody named"


class PatchEncoder(ABC):
    """Turns patches into features, without training and without gradients.

    Parameters
    ----------
    card
        What it is.
    largest_batch
        Most patches that one call takes in well under a third of a second on a slow
        core, so that work can be stopped between calls.
    """

    def __init__(self, card: EncoderCard, largest_batch: int) -> None:
        self.card = card
        self.largest_batch = largest_batch

    def __call__(self, patches: Tensor) -> Tensor:
        """Return (B, D) float32 features of (B, H, W, 3) uint8 patches.

        Raises
        ------
        ValueError
            If the patches have another shape or type than the encoder takes.
        """
        self.check(patches)
        with torch.no_grad():
            return self.encode(patches).float().cpu()

    @abstractmethod
    def encode(self, patches: Tensor) -> Tensor:
        """Return (B, D) features of patches that passed `check`."""

    def check(self, patches: Tensor) -> None:
        """Raise ValueError if patches are not (B, pixels, pixels, 3) uint8."""
        size = (self.card.pixels, self.card.pixels, 3)
        if patches.dtype != torch.uint8 or patches.shape[1:] != size or patches.ndim != 4:
            raise ValueError(
                f"{self.card.name} takes uint8 patches of shape (B, {size[0]}, {size[1]}, 3), "
                f"not {patches.dtype} of {tuple(patches.shape)}"
            )

    def standardize(self, patches: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 pixels as the weights expect them."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.card.mean, self.card.std))
        return (patches.permute(0, 3, 1, 2).float() / 255 - mean) / std
