"""Import of published weights (a release) of a paper's authors.

Only tensors are read: a safetensors file, or a state dict that PyTorch opens without running
code. The authors' programs use features without standardization, so ours stays the identity.

Imported weights give the authors' predictions if both models are equal. Three models differ:
LongMIL's release is its first version, without 2 × 2 pooling and with a mask on one head
only; VIB's does not weight selected patches at inference; and SASHA's state updater ends in a
norm that ours lacks, so that its weights are not imported. The notes of cards of the first
two state the difference, see `DIFFERENCES`.
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

WRAPPERS = ("model", "state_dict", "model_state_dict")  # keys of the weights in a checkpoint
IMPORTED = "imported"  # first word of the card's `data` for imported weights
OWN = "standardize."  # prefix of buffers that no release has
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Exceptions of safetensors and PyTorch's restricted reader for invalid files.
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
    """A file does not contain usable weights of a release."""


@dataclass(frozen=True)
class Taken:
    """Weights that did not match in an import.

    Attributes
    ----------
    missing
        Weights of our model that are not in the release; they were not changed.
    unexpected
        Tensors of the release, by its names, that are not in our model.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def read_release(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file or state dict.

    The keys are the release's names. A state dict is opened by PyTorch's restricted reader,
    which runs no code; it may be stored under "model", "state_dict" or "model_state_dict"
    beside other values, and its names may begin with "module.".

    Raises
    ------
    ReleaseError
        If the file is damaged, contains other objects than tensors and plain values, or no
        weights, or a tensor is not a plain array or has more elements than the file stores.
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
        raise ReleaseError(f"{path.name} contains no weights")
    for name, value in tensors.items():
        if not _is_stored(value):
            raise ReleaseError(f"{path.name}: {name} is not a plain array, or its data is missing")
    return tensors


def release_config(name: str, tensors: Mapping[str, Tensor]) -> dict[str, int | str]:
    """Return the constructor arguments of model `name` for a release.

    Sizes are read from the weights; other arguments are those of the release, or else our
    defaults.

    Raises
    ------
    ReleaseError
        If no release of this model is known, a weight that determines a size is missing or
        not a matrix, or there are fewer weights than branches.
    """
    theirs = _theirs(name, tensors)
    for weight, _ in SIZES[name].values():
        if weight not in theirs:
            raise ReleaseError(f"these are not weights of {name}: its {weight} is missing")
        _check_matrix(theirs[weight], tensors[theirs[weight]])
    sizes = {
        size: tensors[theirs[weight]].shape[axis] for size, (weight, axis) in SIZES[name].items()
    }
    if sizes.get("branches", 0) > len(tensors):
        raise ReleaseError(f"{sizes['branches']} branches are more than {len(tensors)} weights")
    return sizes | SETTINGS.get(name, {})


def load_release(model: MILModel, tensors: Mapping[str, Tensor]) -> Taken:
    """Load the tensors of a release into `model`, in place.

    Returns the names that did not match.

    Raises
    ------
    ReleaseError
        If no release of the model is known, no tensor belongs to it, or one has another
        shape than the model's or is not finite. The model is not changed then.
    """
    taken, state = _matched(model, tensors)
    model.load_state_dict(state, strict=False)
    return taken


def _matched(model: MILModel, tensors: Mapping[str, Tensor]) -> tuple[Taken, Mapping[str, Tensor]]:
    """Return unmatched names and the tensors by our names."""
    name = name_of(model)
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(OWN)}
    theirs = {key: value for key, value in _theirs(name, tensors).items() if key in own}
    if not theirs:
        raise ReleaseError(f"no weight belongs to {name}: {', '.join(sorted(tensors))}")
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
    """Import a release; return model, card and unmatched names.

    The model is in eval mode. No memory is allocated beyond the size of the files.

    Parameters
    ----------
    paths
        Files of the release, usually one.
    name
        Name of the registered model.
    like
        A bag with features like those the release was trained on. The card takes encoder,
        µm per pixel and patch size from it, since a release does not contain them.
    classes
        Names of the classes, in the order of the logits.
    created
        ISO date.

    Raises
    ------
    ReleaseError
        If a file cannot be read, two files have the same weight, or a weight of the model is
        missing.
    ValueError
        If the number of classes or features differs from that of the weights.
    """
    if name not in WHOLE:
        raise ReleaseError(f"no complete release of {name} is known: choose {', '.join(WHOLE)}")
    files = [Path(path) for path in paths]
    tensors = _read_all(files)
    config = release_config(name, tensors)
    if (config["feature_dim"], config["classes"]) != (like.features.shape[1], len(classes)):
        raise ValueError(
            f"these weights need {config['feature_dim']} features per patch and "
            f"{config['classes']} classes, "
            f"not {like.features.shape[1]} features and {len(classes)} classes"
        )
    with torch.device("meta"):
        _check_whole(create_model(name, **config), tensors)
    model = create_model(name, **config).eval()
    taken = load_release(model, tensors)
    return model, _card(model, like, classes, f"weights of {_listed(files)}", created), taken


def release_notes(name: str) -> tuple[str, ...]:
    """Return notes on differences from the authors' predictions, if any."""
    return (DIFFERENCES[name],) if name in DIFFERENCES else ()


def with_release_notes(card: Card) -> Card:
    """Add the release's notes to a card of earlier versions."""
    if card.notes or not card.data.startswith(IMPORTED):
        return card
    return card.model_copy(update={"notes": release_notes(card.model)})


def _read_all(paths: Sequence[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in paths:
        content = read_release(path)
        if repeated := sorted(content.keys() & tensors):
            raise ReleaseError(
                f"{path.name} repeats weights of another file: {', '.join(repeated)}"
            )
        tensors |= content
    return tensors


def _check_whole(model: MILModel, tensors: Mapping[str, Tensor]) -> None:
    taken, _ = _matched(model, tensors)
    if taken.missing:
        raise ReleaseError(
            f"the release lacks {', '.join(taken.missing)}; not in {name_of(model)}: "
            f"{', '.join(taken.unexpected) or 'none'}"
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
        data=f"{IMPORTED} {data}, trained elsewhere on unknown patients",
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
            f"{path.name} cannot be read as weights: it is damaged, or contains objects of its "
            "own program. Save the state dict alone with that program"
        ) from error
    if not isinstance(content, dict):
        raise ReleaseError(f"{path.name} contains a {type(content).__name__}, not a state dict")
    return content


def _theirs(name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the release's names of our weights.

    Our names are the keys; weights that the release lacks are absent.
    """
    if name not in NAMES:
        raise ReleaseError(f"no release of {name} is known: choose {', '.join(NAMES)}")
    names = {}
    for key in tensors:
        module, _, part = key.rpartition(".")
        for pattern, ours in NAMES[name].items():
            if match := re.fullmatch(pattern, module):
                names[f"{match.expand(ours)}.{part}"] = key
    return names


def _is_stored(value: Tensor) -> bool:
    """Return whether a tensor is dense and completely in memory."""
    if value.is_nested or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_matrix(key: str, value: Tensor) -> None:
    if value.ndim != 2 or not value.numel():
        raise ReleaseError(f"{key} is {tuple(value.shape)}, not a matrix of weights")


def _check(key: str, value: Tensor, expected: Tensor) -> None:
    if value.dtype not in FLOATS:
        raise ReleaseError(f"{key} is {value.dtype}, but weights must be floating point")
    if value.shape != expected.shape:
        raise ReleaseError(
            f"{key} is {tuple(value.shape)}, this model needs {tuple(expected.shape)}: "
            "create it with the sizes of `release_config`"
        )
    if not torch.isfinite(value).all():
        raise ReleaseError(f"{key} has NaN or infinite weights")
