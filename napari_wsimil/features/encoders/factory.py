"""Creation of patch encoders by name."""

from __future__ import annotations

from pathlib import Path

from napari_wsimil.features.encoders.base import EncoderCard, PatchEncoder
from napari_wsimil.features.encoders.catalog import KNOWN, KnownEncoder
from napari_wsimil.features.encoders.onnx import OnnxEncoder
from napari_wsimil.features.encoders.stain import StainTexture
from napari_wsimil.features.encoders.timm import TimmEncoder, download, import_timm, timm_encoder

__all__ = ["BUILT_IN", "KNOWN", "EncoderCard", "PatchEncoder", "create_encoder"]

#: Encoder that needs no weights and no further package.
BUILT_IN = "stain-texture"


def create_encoder(
    name: str = BUILT_IN, weights: Path | str | None = None, allow_download: bool = False
) -> PatchEncoder:
    """Return the encoder of a name.

    Parameters
    ----------
    name
        `stain-texture` (built in), a name in `KNOWN`, `timm:ARCHITECTURE` with weights, or
        `onnx` with a file as weights.
    weights
        Local file of weights.
    allow_download
        Whether weights may be downloaded from Hugging Face; never otherwise.

    Raises
    ------
    ValueError
        If there is no such encoder, its weights are not available (the message explains how
        to get them), or a required package is not installed.
    """
    if name == BUILT_IN:
        if weights is not None:
            raise ValueError(f"{BUILT_IN} has no weights, but {weights} was given")
        return StainTexture()
    path = None if weights is None else _existing(Path(weights))
    if name == "onnx":
        return OnnxEncoder(_required(path, "onnx needs a model file: weights=FILE.onnx"))
    if name.startswith("timm:"):
        file = _required(path, f"{name} needs a weight file: weights=FILE")
        return TimmEncoder(name, timm_encoder(name, file), file)
    if name not in KNOWN:
        raise ValueError(
            f"no encoder is called {name!r}. Choose {BUILT_IN}, {', '.join(KNOWN)}, "
            "timm:ARCHITECTURE or onnx"
        )
    return _known_encoder(name, KNOWN[name], path, allow_download)


def _known_encoder(
    name: str, known: KnownEncoder, path: Path | None, allow_download: bool
) -> PatchEncoder:
    import_timm()
    if path is None and not allow_download:
        raise ValueError(
            f"{name}: its weights are missing and nothing is downloaded unasked. "
            f"{known.access} Then give weights=FILE, or allow the download. "
            f"License: {known.license}."
        )
    return TimmEncoder(name, known, path or download(known))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such weight file")
    return path


def _required(path: Path | None, need: str) -> Path:
    if path is None:
        raise ValueError(need)
    return path
