"""Catalog of published pathology encoders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from napari_wsimil.features.encoders.base import IMAGENET_MEAN, IMAGENET_STD

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
OPTIMUS_MEAN = (0.707223, 0.578729, 0.703617)
OPTIMUS_STD = (0.211883, 0.230117, 0.177517)
NON_COMMERCIAL = "CC BY-NC-ND 4.0: academic research, not commercial, no redistribution"


@dataclass(frozen=True)
class KnownEncoder:
    """Facts needed to load a published encoder.

    Attributes
    ----------
    repository, filename
        Repository and file of the weights on Hugging Face.
    architecture, options
        Model of timm, and options that differ from timm's defaults.
    dim, pixels, mpp
        As in `EncoderCard`; mpp as recommended by the authors, None if not stated.
    license
        Terms of the weights.
    gated
        True if access must be requested on the model's page.
    pooling
        "model": output of the model; "class+mean": the class token beside the mean of
        the patch tokens; "attention": CONCH's attention pooling.
    """

    repository: str
    architecture: str
    dim: int
    license: str
    gated: bool
    options: dict[str, Any] = field(default_factory=dict)
    filename: str = "pytorch_model.bin"
    pixels: int = 224
    mpp: float | None = 0.5
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    pooling: str = "model"

    @property
    def access(self) -> str:
        """Sentence on access to the weights."""
        page = f"https://huggingface.co/{self.repository}"
        if not self.gated:
            return f"{self.filename} is freely available on {page}."
        return (
            f"Request access on {page} with a Hugging Face account, wait for the owner's "
            f"approval, log in (hf auth login), then download {self.filename}."
        )


#: Class names, replaced by the classes when the model is built.
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}

KNOWN: dict[str, KnownEncoder] = {
    "uni": KnownEncoder(
        "MahmoodLab/UNI",
        "vit_large_patch16_224",
        1024,
        NON_COMMERCIAL,
        gated=True,
        options={"init_values": 1e-5, "dynamic_img_size": True},
    ),
    "uni2": KnownEncoder(
        "MahmoodLab/UNI2-h",
        "vit_giant_patch14_224",
        1536,
        NON_COMMERCIAL,
        gated=True,
        options={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
    ),
    "conch": KnownEncoder(
        "MahmoodLab/CONCH",
        "vit_base_patch16_224",
        512,
        NON_COMMERCIAL,
        gated=True,
        options={"img_size": 448, "global_pool": "", "dynamic_img_size": True},
        pixels=448,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        pooling="attention",
    ),
    "virchow2": KnownEncoder(
        "paige-ai/Virchow2",
        "vit_huge_patch14_224",
        2560,
        NON_COMMERCIAL,
        gated=True,
        options={
            "img_size": 224,
            "init_values": 1e-5,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "reg_tokens": 4,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
        filename="model.safetensors",
        pooling="class+mean",
    ),
    "gigapath": KnownEncoder(
        "prov-gigapath/prov-gigapath",
        "vit_giant_patch14_dinov2",
        1536,
        "Apache 2.0 with the owner's terms: research, not clinical use",
        gated=True,
        options={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "init_values": 1e-5,
            "mlp_ratio": 5.33334,
        },
    ),
    "h-optimus-0": KnownEncoder(
        "bioptimus/H-optimus-0",
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "Apache 2.0",
        gated=True,
        options={"img_size": 224, "init_values": 1e-5},
        mean=OPTIMUS_MEAN,
        std=OPTIMUS_STD,
    ),
    "phikon": KnownEncoder(
        "owkin/phikon",
        "vit_base_patch16_224",
        768,
        "Owkin's terms: not commercial; see the model's page",
        gated=False,
        filename="model.safetensors",
    ),
    "phikon-v2": KnownEncoder(
        "owkin/phikon-v2",
        "vit_large_patch14_dinov2",
        1024,
        "Owkin's terms: not commercial; see the model's page",
        gated=False,
        options={"img_size": 224, "patch_size": 16},
        filename="model.safetensors",
    ),
    "plip": KnownEncoder(
        "vinid/plip",
        "vit_base_patch32_clip_quickgelu_224",
        512,
        "none stated on the model's page: contact its authors",
        gated=False,
        options={"num_classes": 512},
        mean=CLIP_MEAN,
        std=CLIP_STD,
    ),
}
