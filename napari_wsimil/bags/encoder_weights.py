"""Weights: files of tensors, read without unpickling, their names made timm's."""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Names in Hugging Face's ViT, DINOv2 and CLIP, as patterns, and timm's for the same.
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
#: Parts of a checkpoint that do not see patches.
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
    """Return the named tensors of a safetensors file, or of a PyTorch file of tensors only.

    Raises
    ------
    ValueError
        If it is neither; a pickle of anything but tensors is never run.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: not a file of plain tensors ({error})") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(torch.is_tensor(t) for t in found.values()):
        raise ValueError(f"{path}: holds no named tensors")
    return dict(found)


def timm_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that see patches under timm's names."""
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
    """Put separate queries, keys and values together, as timm has them."""
    for name in [n for n in named if re.search(r"\.attn\.(query|q)\.", n)]:
        first, long = re.search(r"\.attn\.(query|q)\.", name), ".attn.query." in name
        assert first is not None
        parts = ("query", "key", "value") if long else ("q", "k", "v")
        stem, end = name[: first.start()], name[first.end() :]
        tensors = [named.pop(f"{stem}.attn.{part}.{end}") for part in parts]
        named[f"{stem}.attn.qkv.{end}"] = torch.cat(tensors)
    return named
