"""Releases: weights in the naming of the papers' own programs, taken into our models.

Nothing but tensors is read: a safetensors file, or a state dict that PyTorch opens without
running code. The releases' programs take features as they are, so our standardization stays
the identity.

A weight that is loaded does what it did there as long as the model is the same one. Three are
not quite: LongMIL's release is its first version, without 2 × 2 pooling and with a mask on one
head only, VIB's keeps patches unweighted in use, and SASHA's state updater ends in a norm,
which ours does not, so that its weights stay out. Cards of the first two say so in their
notes, see `DIFFERENCES`.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_wsimil.models import create_model, name_of
from napari_wsimil.models.card import Card
from napari_wsimil.training.import_weights_names import DIFFERENCES, NAMES, SETTINGS, SIZES, WHOLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel

WRAPPERS = ("model", "state_dict", "model_state_dict")  # under which programs file the weights
IMPORTED = "imported"  # with which the data of a card of imported weights begins
OWN = "standardize."  # buffers that no release has
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: What safetensors and PyTorch's restricted reader raise when a file is not as it should be.
DAMAGE = (
    SafetensorError,
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)


class ReleaseError(ValueError):
    """A file holds no weights of a release that can be used."""


@dataclass(frozen=True)
class Taken:
    """What became of the weights of a release.

    Attributes
    ----------
    missing
        Weights of ours that the release lacks; they were left as they were.
    unexpected
        Tensors of the release, by its own names, that our model has no place for.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def read_release(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors in a safetensors file or a state dict, by the release's names.

    A state dict is opened by PyTorch's restricted reader, which runs no code; it may be filed
    under "model" or "state_dict" beside other things, and its names may begin with "module.".

    Raises
    ------
    ReleaseError
        If the file is damaged, holds anything but tensors and plain values, or no weights,
        or a tensor is no plain array or claims more numbers than the file has.
    """
    path = Path(path)
    content = _open(path)
    for name in WRAPPERS:
        if isinstance(content.get(name), dict):
            content = content[name]  # type: ignore[assignment]
            break
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ReleaseError(f"{path.name} holds no weights")
    for name, value in tensors.items():
        if not _is_stored(value):
            raise ReleaseError(f"{path.name}: {name} is no plain array, or the file lacks its data")
    return tensors


def release_config(name: str, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Return the arguments that make the model `name` which the tensors of a release fit.

    What its weights do not tell is as the release has it, or else our default.

    Raises
    ------
    ReleaseError
        If no release of this model is known, a weight that tells a size is not there or no
        matrix, or there are fewer weights than branches.
    """
    theirs = _theirs(name, tensors)
    for weight, _ in SIZES[name].values():
        if weight not in theirs:
            raise ReleaseError(f"these are no weights of {name}: none of them is its {weight}")
        _check_matrix(theirs[weight], tensors[theirs[weight]])
    sizes = {
        size: tensors[theirs[weight]].shape[axis] for size, (weight, axis) in SIZES[name].items()
    }
    if sizes.get("branches", 0) > len(tensors):
        raise ReleaseError(f"{sizes['branches']} branches are more than {len(tensors)} weights")
    return sizes | SETTINGS.get(name, {})


def load_release(model: MILModel, tensors: Mapping[str, Tensor]) -> Taken:
    """Put the tensors of a release into `model`, in place; return what did not fit by name.

    Raises
    ------
    ReleaseError
        If no release of the model is known, none of the tensors is of it, one has another
        shape than the model's, or is not finite. The model then is as it was.
    """
    taken, state = _matched(model, tensors)
    model.load_state_dict(state, strict=False)
    return taken


def _matched(model: MILModel, tensors: Mapping[str, Tensor]) -> tuple[Taken, Mapping[str, Tensor]]:
    """Return what becomes of the tensors, and those taken by the model's names."""
    name = name_of(model)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(OWN)}
    theirs = {key: value for key, value in _theirs(name, tensors).items() if key in own}
    if not theirs:
        raise ReleaseError(f"none of these weights is of {name}: {', '.join(sorted(tensors))}")
    for ours, key in theirs.items():
        _check(key, tensors[key], own[ours])
    taken = Taken(
        missing=tuple(sorted(own.keys() - theirs)),
        unexpected=tuple(sorted(tensors.keys() - theirs.values())),
    )
    return taken, {ours: tensors[key] for ours, key in theirs.items()}


def import_release(
    paths: Sequence[Path | str], name: str, like: Bag, classes: Sequence[str], created: str
) -> tuple[MILModel, Card, Taken]:
    """Return the model in the files of a release, in eval mode, its card, and what was left.

    Nothing is allocated that the files do not hold.

    Parameters
    ----------
    paths
        The files that hold its parts, as a rule one.
    name
        Of the model, as registered.
    like
        A bag of features such as the release was trained on: its encoder, µm per pixel and
        patch size go on the card, since no release tells them.
    classes
        Their names, in the order of the logits.
    created
        ISO date.

    Raises
    ------
    ReleaseError
        If a file cannot be read, two have the same weight, or the release lacks a weight of
        the model.
    ValueError
        If the classes or the bag are not what the weights are of.
    """
    if name not in WHOLE:
        raise ReleaseError(f"no whole release of {name} is known; there are {', '.join(WHOLE)}")
    files = [Path(path) for path in paths]
    tensors = _read_all(files)
    config = release_config(name, tensors)
    if (config["feature_dim"], config["classes"]) != (like.features.shape[1], len(classes)):
        raise ValueError(
            f"these weights take features of {config['feature_dim']} numbers and know "
            f"{config['classes']} classes; "
            f"given are features of {like.features.shape[1]} and {len(classes)} classes"
        )
    with torch.device("meta"):
        _check_whole(create_model(name, **config), tensors)
    model = create_model(name, **config).eval()
    taken = load_release(model, tensors)
    return model, _card(model, like, classes, f"weights of {_listed(files)}", created), taken


def release_notes(name: str) -> tuple[str, ...]:
    """Return how a model with a release's weights answers otherwise than there, if it does."""
    return (DIFFERENCES[name],) if name in DIFFERENCES else ()


def with_release_notes(card: Card) -> Card:
    """Return a card with its release's notes, which earlier imports did not write."""
    if card.notes or not card.data.startswith(IMPORTED):
        return card
    return card.model_copy(update={"notes": release_notes(card.model)})


def _read_all(paths: Sequence[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in paths:
        read = read_release(path)
        if twice := sorted(read.keys() & tensors):
            raise ReleaseError(f"{path.name} has again what another file has: {', '.join(twice)}")
        tensors |= read
    return tensors


def _check_whole(model: MILModel, tensors: Mapping[str, Tensor]) -> None:
    taken, _ = _matched(model, tensors)
    if taken.missing:
        raise ReleaseError(
            f"the release lacks {', '.join(taken.missing)}; it has, and {name_of(model)} has no "
            f"place for, {', '.join(taken.unexpected) or 'nothing else'}"
        )


def _card(model: MILModel, like: Bag, classes: Sequence[str], data: str, created: str) -> Card:
    grid = like.grid
    return Card(
        model=name_of(model),
        config=model.config,
        encoder=like.encoder,
        encoder_dim=model.feature_dim,
        mpp=None if grid is None else grid.mpp,
        pixels=None if grid is None else grid.pixels,
        overlap=None if grid is None else 1 - grid.stride / grid.patch_size,
        classes=tuple(classes),
        notes=release_notes(name_of(model)),
        data=f"{IMPORTED} {data}, trained elsewhere: on whom, it does not tell",
        synthetic=like.synthetic,
        seed=0,
        threads=1,
        versions={},
        created=created,
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _open(path: Path) -> dict[str, object]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise ReleaseError(
            f"{path.name} cannot be read as weights alone: it is damaged, or holds objects that "
            "only its own program may open; have it save its state dict"
        ) from error
    if not isinstance(content, dict):
        raise ReleaseError(f"{path.name} holds a {type(content).__name__}, not a state dict")
    return content


def _theirs(name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the release's name of each weight of ours that it has."""
    if name not in NAMES:
        raise ReleaseError(f"no release of {name} is known; there are {', '.join(NAMES)}")
    found = {}
    for key in tensors:
        module, _, part = key.rpartition(".")
        for pattern, ours in NAMES[name].items():
            if match := re.fullmatch(pattern, module):
                found[f"{match.expand(ours)}.{part}"] = key
    return found


def _is_stored(value: Tensor) -> bool:
    """Return whether a tensor is an array all of whose numbers are in memory, one by one."""
    if value.is_nested or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_matrix(key: str, value: Tensor) -> None:
    if value.ndim != 2 or not value.numel():
        raise ReleaseError(f"{key} is {tuple(value.shape)}, no matrix of weights")


def _check(key: str, value: Tensor, wanted: Tensor) -> None:
    if value.dtype not in FLOATS:
        raise ReleaseError(f"{key} is of {value.dtype}, which weights are not")
    if value.shape != wanted.shape:
        raise ReleaseError(
            f"{key} is {tuple(value.shape)}, this model takes {tuple(wanted.shape)}: "
            "make it with the sizes of `release_config`"
        )
    if not torch.isfinite(value).all():
        raise ReleaseError(f"{key} has NaN or infinite weights")
