"""Encoder from a local ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_wsimil.features.encoders.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EncoderCard,
    PatchEncoder,
    hash_file,
)
from napari_wsimil.features.encoders.onnx_files import external_files, hash_onnx

if TYPE_CHECKING:
    from torch import Tensor


class OnnxEncoder(PatchEncoder):
    """Encoder from an ONNX file.

    The model's input is (B, 3, S, S) float32, its output (B, D).

    S and D are read from the file. Pixels are standardized with ImageNet's mean and standard
    deviation, because ONNX states none. The identity includes external weight files.

    Raises
    ------
    ValueError
        If onnxruntime is missing, the file is not such a model, or its weight files are
        missing or outside its folder.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        sha256, files = hash_onnx(path), external_files(path)
        self._session = _open_session(path)
        batch, pixels = _input_size(path, self._session)
        card = EncoderCard(
            name="onnx",
            sha256=sha256,
            dim=_output_size(path, self._session),
            pixels=pixels,
            mpp=None,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            license="unknown: see the source of the file",
            notes=_note(path, len(files)),
        )
        super().__init__(card, largest_batch=batch or 8)
        self._batch = batch

    def encode(self, patches: Tensor) -> Tensor:
        """Return (B, D) features.

        A file with a fixed batch size gets zero-padded input.
        """
        pixels = self.standardize(patches)
        if self._batch is not None:
            missing = self._batch - len(pixels)
            pixels = torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])
        name = self._session.get_inputs()[0].name
        rows = self._session.run(None, {name: pixels.contiguous().numpy()})[0]
        return torch.from_numpy(rows)[: len(patches)]


def _note(path: Path, files: int) -> tuple[str, ...]:
    """Return a note if earlier versions gave another identity."""
    if not files:
        return ()
    return (
        f"its identity includes {files} external weight file{'' if files == 1 else 's'}; "
        f"features of earlier versions name it onnx@{hash_file(path)[:16]} for any weights: "
        "extract these again",
    )


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as failures
    except ImportError as error:
        raise ValueError(
            "onnxruntime is not installed: pip install 'napari-wsimil[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    errors = (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
    )
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise ValueError(f"{path}: not a readable ONNX model ({error})") from error


def _input_size(path: Path, session: Any) -> tuple[int | None, int]:
    """Return batch size (None if free) and patch side."""
    inputs = session.get_inputs()
    shape, kind = inputs[0].shape, inputs[0].type
    square = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]
    if len(inputs) != 1 or not square or not isinstance(shape[3], int) or "float)" not in kind:
        raise ValueError(
            f"{path}: its inputs are {[(i.name, i.type, i.shape) for i in inputs]}, not one "
            "float32 input of shape (B, 3, S, S) with S fixed"
        )
    return (shape[0] if isinstance(shape[0], int) else None), shape[3]


def _output_size(path: Path, session: Any) -> int:
    shape = session.get_outputs()[0].shape
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ValueError(f"{path}: its output is {shape}, not (B, D) with D fixed")
    return shape[1]
