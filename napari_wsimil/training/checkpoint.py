"""Checkpoint: a model in one safetensors file, its card in the file's header."""

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
CARD = "card"  # its key in the header
COUNTED = {"branches", "depth"}  # of what a model makes modules one by one, each with weights


class CheckpointError(ValueError):
    """A file is no checkpoint that can be used, or not safely."""


def save_checkpoint(path: Path | str, model: MILModel, card: Card) -> Card:
    """Return the card as written to `path`, with the hash of the weights.

    The file appears whole or not at all.

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
    """Raise CheckpointError if no checkpoint can be written to `path`, best before training.

    The name may be wrong, its folder missing or not writable; what is there stays.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path.name}: the name of a checkpoint ends in {SUFFIX}")
    if path.is_dir():
        raise CheckpointError(f"{path} could not be written: it is a folder")
    try:
        part = path.with_name(f"{path.name}.part")
        part.touch()
        part.unlink()
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror}") from error


def load_checkpoint(path: Path | str) -> tuple[MILModel, Card]:
    """Return the model, in eval mode, and its card.

    Nothing is ever unpickled, and nothing is allocated that the file does not hold.

    Raises
    ------
    CheckpointError
        If the file is a pickle, damaged, newer than this program, of an unknown model, or
        its weights are not those its card speaks of.
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
    """Return the SHA-256 of names, types, shapes and bytes, in the order of the names."""
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
            "have its author save the weights as .safetensors"
        )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return header and tensors; copies, so that the file may go or change afterwards."""
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
            raise CheckpointError(f"{path.name}: {name} {value} is more than its weights can be of")
    try:
        return create_model(card.model, **card.config)
    except (ValueError, RuntimeError) as error:  # the latter of sizes that torch cannot count
        raise CheckpointError(f"{path.name}: {error}") from error


def _compare(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, unexpected = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or unexpected:
        raise CheckpointError(
            f"{path.name} is not the model its card names: "
            f"missing {', '.join(missing) or 'none'}; unexpected {', '.join(unexpected) or 'none'}"
        )
    for name, value in found.items():
        wanted = expected[name]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise CheckpointError(
                f"{path.name}: {name} is {tuple(value.shape)} {value.dtype}, "
                f"the card's model needs {tuple(wanted.shape)} {wanted.dtype}"
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path.name}: {name} has NaN or infinite weights")


class Unfinished:
    """A checkpoint beside the one that will be, for a training that may not come to its end.

    Parameters
    ----------
    target
        Where the finished checkpoint will be; what is there stays until then.
    model
        What is trained.
    card
        Of the model, as far as it is known before training.
    undefined
        Why a metric of the validation cases may have no value.

    Attributes
    ----------
    path
        NAME.unfinished.safetensors.
    epoch
        Whose weights lie there; None before the first.
    """

    def __init__(
        self, target: Path | str, model: MILModel, card: Card, undefined: str = ""
    ) -> None:
        target = Path(target)
        self.path = target.with_name(f"{target.stem}.unfinished{SUFFIX}")
        self.epoch: Epoch | None = None
        self._model, self._card, self._undefined = model, card, undefined

    def keep(self, epoch: Epoch, survival: Survival | None) -> None:
        """Write the weights of an epoch in place of those before; the card says of which.

        Raises
        ------
        CheckpointError
            If they cannot be written; those before then stay as they were.
        """
        told = f"{self._card.data}; {title(epoch)}, training not finished"
        metrics = {f"validation {name}": value for name, value in epoch.validation.items()}
        missing = [name for name, value in metrics.items() if math.isnan(value)]
        facts = {
            "data": told,
            "metrics": metrics | dict.fromkeys(missing),
            "reasons": dict.fromkeys(missing, f"not defined: {self._undefined}"),
            "survival": survival,
        }
        save_checkpoint(self.path, self._model, self._card.model_copy(update=facts))
        self.epoch = epoch

    def remove(self) -> None:
        """Remove what was kept, if this training kept anything."""
        if self.epoch is not None:
            self.path.unlink(missing_ok=True)
            self.epoch = None


def title(epoch: Epoch) -> str:
    """Return what an epoch is called: "epoch 3 of 40", with its stage where there are several."""
    of = "" if epoch.text == "fit" else f' of stage "{epoch.text}"'
    return f"epoch {epoch.done} of {epoch.total}{of}"
