"""Encoder interface, encoder card, and safe reading of weights."""

from __future__ import annotations

import hashlib
import pickle
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Tensor names of Hugging Face's ViT, DINOv2 and CLIP as patterns, with timm's names.
RENAMED = (
    (r"^(module|model|vit|dinov2)\.", ""),
    (r"^vision_model\.", ""),
    (r"^embeddings\.(cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^encoder\.layers?\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.self_attn\.(q|k|v)_proj\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.layernorm_before\.|\.layer_norm1\.", ".norm1."),
    (r"\.layernorm_after\.|\.layer_norm2\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"^(layernorm|post_layernorm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^visual_projection\.", "head."),
)

#: Parts of a checkpoint that patch encoding does not use.
UNUSED = re.compile(
    r"^(text_model|text_projection|text|logit_scale|logit_bias|head_dist|pooler)\b"
    r"|mask_token$|position_ids$|attn_pool_caption|ln_caption|proj_contrast"
)


def hash_file(path: Path | str) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    path = Path(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Return the named tensors of a safetensors or PyTorch file.

    A PyTorch file must have tensors only.

    Raises
    ------
    ValueError
        If it is neither; pickles of other objects are never executed.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: not a file of plain tensors ({error})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(torch.is_tensor(t) for t in content.values()):
        raise ValueError(f"{path}: contains no named tensors")
    return dict(content)


def timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the image encoder's tensors under timm's names."""
    named = {_timm_name(name): t for name, t in weights.items() if not UNUSED.search(name)}
    named = {name: t for name, t in named.items() if not UNUSED.search(name)}
    named = _join_attention(named)
    for name, axes in (("cls_token", 3), ("pos_embed", 3)):
        if name in named:
            named[name] = named[name].reshape((1,) * (axes - named[name].ndim) + named[name].shape)
    if "norm_pre.weight" in named and "head.weight" in named and "head.bias" not in named:
        named["head.bias"] = torch.zeros(len(named["head.weight"]))
    return named


def _timm_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _join_attention(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate separate queries, keys and values, as in timm."""
    for name in [n for n in named if re.search(r"\.attn\.(query|q)\.", n)]:
        first, long = re.search(r"\.attn\.(query|q)\.", name), ".attn.query." in name
        assert first is not None
        parts = ("query", "key", "value") if long else ("q", "k", "v")
        stem, end = name[: first.start()], name[first.end() :]
        tensors = [named.pop(f"{stem}.attn.{part}.{end}") for part in parts]
        named[f"{stem}.attn.qkv.{end}"] = torch.cat(tensors)
    return named


IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderCard:
    """Metadata of an encoder, and its required input.

    Attributes
    ----------
    name
        Name, as in `create_encoder`.
    sha256
        Hash of the weights, or of the definition for encoders without; hexadecimal.
    dim
        D, the length of a feature vector.
    pixels
        Patch side in pixels.
    mpp
        µm per pixel for which it was designed; None if not stated.
    mean, std
        Mean and standard deviation of red, green and blue (0 to 1) for standardization.
    license
        Terms of the weights, in a sentence.
    gated
        How to request access to the weights; empty if they are free.
    notes
        Remarks on loading the weights, as sentences.
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
        """Name and hash, equal only for encoders with equal features."""
        return f"{self.name}@{self.sha256[:16]}"


def require_encoder(made_by: str, wanted: str) -> None:
    """Raise ValueError unless features match the model's encoder.

    Parameters
    ----------
    made_by, wanted
        Identities; empty for unnamed encoders.
    """
    if made_by != wanted:
        hint = onnx_hint(made_by, wanted)
        raise ValueError(
            f"the features were made by {encoder_name(made_by)}, this model requires "
            f"{encoder_name(wanted)}: extract them again with that encoder{hint}"
        )


def onnx_hint(*identities: str) -> str:
    """Return a hint on different identities of one ONNX encoder.

    It is empty for other encoders.
    """
    if not all(identity.startswith("onnx@") for identity in identities):
        return ""
    return (
        ". Earlier versions left external weight files out of an ONNX encoder's identity: if "
        "it has such files, extract the features again and retrain"
    )


def encoder_name(identity: str) -> str:
    """Return an encoder's identity for messages, even if unnamed."""
    return f'the encoder "{identity}"' if identity else "an unnamed encoder"


class PatchEncoder(ABC):
    """Frozen encoder of patches into feature vectors, without gradients.

    Subclasses implement `encode` and pass their card; callers use the encoder as a function
    of a batch of patches.

    Parameters
    ----------
    card
        Metadata of the encoder.
    largest_batch
        Maximum number of patches per call. A call should take well under a third of a second
        on a slow core, so that work can be stopped between calls.
    """

    def __init__(self, card: EncoderCard, largest_batch: int) -> None:
        self.card = card
        self.largest_batch = largest_batch

    def __call__(self, patches: Tensor) -> Tensor:
        """Return features of patches.

        The patches are (B, H, W, 3) uint8, the features (B, D) float32.

        Raises
        ------
        ValueError
            If the patches have another shape or dtype than the encoder takes.
        """
        self.check(patches)
        with torch.no_grad():
            return self.encode(patches).float().cpu()

    @abstractmethod
    def encode(self, patches: Tensor) -> Tensor:
        """Return (B, D) features of patches validated by `check`."""

    def check(self, patches: Tensor) -> None:
        """Raise ValueError unless patches are (B, pixels, pixels, 3) uint8."""
        size = (self.card.pixels, self.card.pixels, 3)
        if patches.dtype != torch.uint8 or patches.shape[1:] != size or patches.ndim != 4:
            raise ValueError(
                f"{self.card.name} takes uint8 patches of shape (B, {size[0]}, {size[1]}, 3), "
                f"not {patches.dtype} of {tuple(patches.shape)}"
            )

    def standardize(self, patches: Tensor) -> Tensor:
        """Return standardized (B, 3, H, W) float32 pixels."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.card.mean, self.card.std))
        return (patches.permute(0, 3, 1, 2).float() / 255 - mean) / std
