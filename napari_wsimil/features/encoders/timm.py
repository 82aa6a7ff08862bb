"""Encoders with timm architectures, and download of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from napari_wsimil.features.encoders.base import (
    EncoderCard,
    PatchEncoder,
    hash_file,
    read_weights,
    timm_names,
)
from napari_wsimil.features.encoders.catalog import KnownEncoder

INSTALL = "pip install 'napari-wsimil[encoders]'"
#: Approximate parameters times patches that a slow core handles in a quarter of a second.
WORK = 6e7


class TimmEncoder(PatchEncoder):
    """Encoder with a timm architecture.

    Parameters
    ----------
    name
        Name, as in `create_encoder`.
    known
        Architecture and metadata.
    weights
        Weight file: safetensors, or a PyTorch file of tensors only.

    Raises
    ------
    ValueError
        If timm is missing or broken, or if the weights lack tensors of the architecture
        or have other shapes. Unused tensors are listed in the card's notes.
    """

    def __init__(self, name: str, known: KnownEncoder, weights: Path | str) -> None:
        weights = Path(weights)
        self._pooling = known.pooling
        self._model = _build(known)
        notes = _load(self._model, weights)
        self._model.eval().requires_grad_(False)
        parameters = sum(p.numel() for p in self._model.parameters())
        card = EncoderCard(
            name=name,
            sha256=hash_file(weights),
            dim=known.dim,
            pixels=known.pixels,
            mpp=known.mpp,
            mean=known.mean,
            std=known.std,
            license=known.license,
            gated=known.access if known.gated else "",
            notes=notes,
        )
        super().__init__(card, largest_batch=max(1, int(WORK / parameters)))

    def encode(self, patches: Tensor) -> Tensor:
        """Return (B, D) features."""
        tokens: Tensor = self._model(self.standardize(patches))
        if self._pooling != "class+mean":
            return tokens
        prefix: Any = self._model.num_prefix_tokens
        return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)


class AttentionPooled(nn.Module):
    """CONCH's image encoder (Lu et al. 2024).

    A ViT with attention pooling: one learned query pools its tokens.
    """

    def __init__(self, trunk: nn.Module, width: int, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = AttentionPool(width, dim)
        self.ln_contrast = nn.LayerNorm(dim)

    def forward(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk(pixels)))
        return pooled


class AttentionPool(nn.Module):
    """Attention pooling by one learned query.

    Input tokens are (B, T, width), the output is (B, dim).
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, dim))
        self.attn = nn.MultiheadAttention(dim, 8, kdim=width, vdim=width, batch_first=True)
        self.ln_q = nn.LayerNorm(dim)
        self.ln_k = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        keys = self.ln_k(tokens)  # (B, T, width)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)  # (B, 1, dim)
        pooled: Tensor = self.attn(query, keys, keys, need_weights=False)[0]
        return pooled[:, 0]


def timm_encoder(name: str, weights: Path | str) -> KnownEncoder:
    """Return the metadata of `timm:ARCHITECTURE`, as stated by timm."""
    weights = Path(weights)
    architecture = name.removeprefix("timm:")
    timm = import_timm()
    if architecture not in timm.list_models():
        raise ValueError(f"{architecture}: timm has no such architecture")
    model = timm.create_model(architecture, num_classes=0)
    stated = model.pretrained_cfg
    return KnownEncoder(
        repository=str(weights),
        architecture=architecture,
        dim=model.num_features,
        license="unknown: see the source of the weights",
        gated=False,
        pixels=stated["input_size"][-1],
        mpp=None,
        mean=tuple(stated["mean"]),
        std=tuple(stated["std"]),
    )


def import_timm() -> Any:
    """Import timm and return it.

    Raises
    ------
    ValueError
        If it cannot be imported; the message names the packages to install.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"timm is not installed: {INSTALL}") from error
    except RuntimeError as error:
        raise ValueError(
            f"timm cannot be imported, most often because torch and torchvision are not of one "
            f"release ({error}). Install matching versions, then {INSTALL}"
        ) from error
    return timm


def download(known: KnownEncoder) -> Path:
    """Download weights from Hugging Face, or return its cached copy.

    Raises
    ------
    ValueError
        If huggingface_hub is not installed or the download fails.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ValueError(f"huggingface_hub is not installed: {INSTALL}") from error
    try:
        return Path(hf_hub_download(known.repository, known.filename))
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"{known.repository}: download failed ({error}). {known.access}"
        ) from error


def _build(known: KnownEncoder) -> nn.Module:
    options = {"num_classes": 0, **known.options}
    timm = import_timm()
    if options.get("mlp_layer") == "SwiGLUPacked":
        options |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
    model = cast("nn.Module", timm.create_model(known.architecture, **options))
    if known.pooling != "attention":
        return model
    width: Any = model.num_features
    return AttentionPooled(model, width, known.dim)


def _load(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load weights; return a note on unused tensors."""
    named = timm_names(read_weights(path))
    if isinstance(model, AttentionPooled):
        named = {name.removeprefix("visual."): tensor for name, tensor in named.items()}
    try:
        missing, unexpected = model.load_state_dict(named, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit the architecture: {error}") from error
    if missing:
        raise ValueError(f"{path}: lacks {_listed(missing)}: are these weights of this encoder?")
    return (f"not used: {_listed(unexpected)}",) if unexpected else ()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{len(names)} tensors ({', '.join(names[:8])}{more})"
