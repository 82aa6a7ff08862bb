"""Checkpoint: model weights and card in one safetensors file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_wsimil.files import atomic_write
from napari_wsimil.models import create_model
from napari_wsimil.models.card import FORMAT, Card
from napari_wsimil.training.import_weights import with_release_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.losses import Survival
    from napari_wsimil.training.fit import Epoch

SUFFIX = ".safetensors"
PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib"}
PICKLE_STARTS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(1, 6)))
CARD = "card"  # key of the card in the header
COUNTED = {"branches", "depth"}  # options that create one module with weights per count


class CheckpointError(ValueError):
    """A file is not a usable or safe checkpoint."""


def save_checkpoint(path: Path | str, model: MILModel, card: Card) -> Card:
    """Write a checkpoint atomically; return its card.

    The card returned includes the hash of the weights.

    Raises
    ------
    CheckpointError
        If the name does not end in .safetensors or the file cannot be written.
    """
    path = Path(path)
    check_target(path)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    card = card.model_copy(update={"weights": weights_hash(tensors)})
    try:
        with atomic_write(path) as part:
            part.write_bytes(save(tensors, metadata={CARD: card.model_dump_json()}))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} could not be written: {error}") from error
    return card


def check_target(path: Path | str) -> None:
    """Raise CheckpointError if no checkpoint can be written to `path`.

    Call it before training. It checks the name, and that the folder exists and is writable;
    an existing file is not changed.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint must end in {SUFFIX}")
    if path.is_dir():
        raise CheckpointError(f"{path} could not be written: it is a folder")
    try:
        part = path.with_name(f"{path.name}.part")
        part.touch()
        part.unlink()
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror}") from error


def load_checkpoint(path: Path | str) -> tuple[MILModel, Card]:
    """Load a checkpoint; return its model and card.

    The model is in eval mode. Nothing is unpickled, and no memory is allocated beyond the size
    of the file.

    Raises
    ------
    CheckpointError
        If the file is a pickle, damaged, newer than this program or of an unknown model, or
        if weights and card do not match.
    """
    path = Path(path)
    _refuse_pickle(path)
    metadata, tensors = _read(path)
    card = _card(path, metadata)
    with torch.device("meta"):
        model = _model(path, card, tensors)
    _compare(path, model.state_dict(), tensors)
    if weights_hash(tensors) != card.weights:
        raise CheckpointError(f"{path.name}: the weights are not those its card was written for")
    model.load_state_dict(tensors, assign=True)
    return model.eval(), with_release_notes(card)


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors, hex digits.

    It covers name, type, shape and bytes of each tensor, sorted by name.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
    if path.suffix.lower() in PICKLE_SUFFIXES or start.startswith(PICKLE_STARTS):
        raise CheckpointError(
            f"{path.name} is a pickle, which could run any program when opened: "
            "ask its author for a .safetensors file"
        )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header and copies of all tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.name} is cut short, damaged or no safetensors file: copy it again"
        ) from error
    return metadata, tensors


def _card(path: Path, metadata: Mapping[str, str]) -> Card:
    if CARD not in metadata:
        raise CheckpointError(
            f"{path.name} has weights but no card: it was not saved by this program"
        )
    try:
        fields = json.loads(metadata[CARD])
        newer = isinstance(fields, dict) and fields.get("format", 0) > FORMAT
        if newer:
            raise CheckpointError(
                f"{path.name} is of format {fields['format']}, "
                f"this program knows {FORMAT}: update it"
            )
        return Card.model_validate(fields)
    except (json.JSONDecodeError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{path.name} has a card that cannot be read: {_first(error)}"
        ) from error


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]


def _model(path: Path, card: Card, tensors: Mapping[str, Tensor]) -> MILModel:
    for name in COUNTED & card.config.keys():
        value = card.config[name]
        if isinstance(value, int) and value > len(tensors):
            raise CheckpointError(f"{path.name}: {name} {value} exceeds the number of its weights")
    try:
        return create_model(card.model, **card.config)
    except (ValueError, RuntimeError) as error:  # RuntimeError: sizes beyond torch's limits
        raise CheckpointError(f"{path.name}: {error}") from error


def _compare(path: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    missing, unexpected = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing or unexpected:
        raise CheckpointError(
            f"{path.name} does not match the model of its card: "
            f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
        )
    for name, value in tensors.items():
        needed = expected[name]
        if (value.shape, value.dtype) != (needed.shape, needed.dtype):
            raise CheckpointError(
                f"{path.name}: {name} is {tuple(value.shape)} {value.dtype}, "
                f"the card's model needs {tuple(needed.shape)} {needed.dtype}"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path.name}: {name} has NaN or infinite weights")


class Unfinished:
    """Checkpoint of the best weights so far during training.

    It is stored next to the final checkpoint and remains if the training is stopped.

    Parameters
    ----------
    target
        Path of the final checkpoint; an existing file is not changed before the end.
    model
        The model in training.
    card
        Card of the model, complete as far as known before training.
    undefined
        Reason for undefined metrics of the validation cases.

    Attributes
    ----------
    path
        NAME.unfinished.safetensors.
    epoch
        Epoch of the stored weights; None before the first.
    """

    def __init__(
        self, target: Path | str, model: MILModel, card: Card, undefined: str = ""
    ) -> None:
        target = Path(target)
        self.path = target.with_name(f"{target.stem}.unfinished{SUFFIX}")
        self.epoch: Epoch | None = None
        self._model, self._card, self._undefined = model, card, undefined

    def keep(self, epoch: Epoch, survival: Survival | None) -> None:
        """Replace the stored weights by those of an epoch.

        The card names the epoch.

        Raises
        ------
        CheckpointError
            If the file cannot be written; the previous file is then unchanged.
        """
        data = f"{self._card.data}; {title(epoch)}, training not finished"
        metrics = {f"validation {name}": value for name, value in epoch.validation.items()}
        missing = [name for name, value in metrics.items() if math.isnan(value)]
        facts = {
            "data": data,
            "metrics": metrics | dict.fromkeys(missing),
            "reasons": dict.fromkeys(missing, f"not defined: {self._undefined}"),
            "survival": survival,
        }
        save_checkpoint(self.path, self._model, self._card.model_copy(update=facts))
        self.epoch = epoch

    def remove(self) -> None:
        """Remove the stored checkpoint, if any."""
        if self.epoch is not None:
            self.path.unlink(missing_ok=True)
            self.epoch = None


def title(epoch: Epoch) -> str:
    """Return a title such as "epoch 3 of 40".

    It includes the training stage if there are several.
    """
    of = "" if epoch.text == "fit" else f' of stage "{epoch.text}"'
    return f"epoch {epoch.done} of {epoch.total}{of}"
