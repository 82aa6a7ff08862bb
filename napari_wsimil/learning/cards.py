"""The card of a model that was just trained, read off its cases."""

from __future__ import annotations

import platform
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import torch

from napari_wsimil.bags.bag import reading_caveats
from napari_wsimil.models import name_of
from napari_wsimil.models.card import Card, pseudonym

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.learning.cases import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.record import RecordFormat
    from napari_wsimil.models.survival import Survival

Value = TypeVar("Value")

LIBRARIES = ("napari-wsimil", "torch", "numpy", "safetensors")


def describe(
    model: MILModel,
    cases: Sequence[Case],
    *,
    classes: Sequence[str],
    survival: Survival | None = None,
    record: RecordFormat | None = None,
    data: str,
    seed: int,
    salt: str,
    created: str,
    metrics: Mapping[str, float] | None = None,
) -> Card:
    """Return the card of `model` as trained and selected on `cases`.

    Parameters
    ----------
    classes
        Their names, in the order of the logits.
    survival
        How the logits are read as survival, if they are.
    record
        How records became tokens, for a model that reads them.
    data
        A sentence on the data.
    salt
        Anything; best drawn at random for each model.
    created
        ISO date.

    Raises
    ------
    ValueError
        If the bags are not of one encoder and one patch size in pixels.
    """
    bags = [bag for case in cases for bag in case.bags]
    facts = [(bag.encoder, bag.synthetic, bag.grid) for bag in bags]
    encoders, synthetic, places = zip(*facts, strict=True)
    grids = [grid for grid in places if grid is not None]
    known = [grid.mpp for grid in grids if grid.mpp is not None]
    return Card(
        model=name_of(model),
        config=model.config,
        encoder=_one("encoder", set(encoders)),
        encoder_dim=model.feature_dim,
        mpp=median(known) if known else None,
        pixels=_one("patch size in pixels", {grid.pixels for grid in grids}) if grids else None,
        overlap=median(1 - g.stride / g.patch_size for g in grids) if grids else None,
        classes=tuple(classes),
        survival=survival,
        record=record,
        readers=tuple(sorted({bag.reading.version for bag in bags} - {0})),
        notes=reading_caveats(bag for bag in bags if bag.reading.changes is not None),
        data=data,
        synthetic=any(synthetic),
        patients=tuple(sorted({pseudonym(case.person, salt) for case in cases})),
        salt=salt,
        metrics=dict(metrics or {}),
        seed=seed,
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        created=created,
    )


def _one(what: str, values: set[Value]) -> Value:
    if len(values) != 1:
        listed = ", ".join(sorted(f"{value}" for value in values))
        raise ValueError(f"the training bags must be of one {what}, not of {listed or 'none'}")
    return values.pop()
