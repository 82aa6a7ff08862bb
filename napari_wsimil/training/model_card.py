"""Card of a trained model, computed from its training cases."""

from __future__ import annotations

import platform
from importlib.metadata import version
from statistics import median, mode
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from napari_wsimil.features.bag import reading_caveats
from napari_wsimil.features.bag_facts import facts_of
from napari_wsimil.models import name_of
from napari_wsimil.models.card import Card, pseudonym
from napari_wsimil.models.training_features import TrainingFeatures
from napari_wsimil.training.cases import unit_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.features.bag_facts import BagFacts
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.losses import Survival
    from napari_wsimil.models.record_encoder import RecordFormat

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
    features: TrainingFeatures | None = None,
    mixed: bool = False,
    metrics: Mapping[str, float] | None = None,
) -> Card:
    """Return the card of `model`, trained and selected on `cases`.

    Parameters
    ----------
    classes
        Names of the classes, in the order of the logits.
    survival
        Interpretation of the logits as survival; None for classes.
    record
        Encoding of records as tokens, for a model that reads records.
    data
        A sentence on the training data.
    salt
        Any text; draw it at random for each model.
    created
        ISO date.
    features
        Ranges, statistics and hashes of the features; without hashes if None.
    mixed
        Whether several patch sizes are accepted; the card then stores the most frequent one.

    Raises
    ------
    ValueError
        If the bags have several encoders or patch sizes in pixels.
    """
    facts = [one for case in cases for one in case.facts or map(facts_of, case.bags)]
    return Card(
        **_feature_fields(facts, mixed),
        model=name_of(model),
        config=model.config,
        encoder_dim=model.feature_dim,
        classes=tuple(classes),
        survival=survival,
        record=record,
        data=data,
        patients=tuple(sorted({pseudonym(case.person, salt) for case in cases})),
        salt=salt,
        features=features or TrainingFeatures.of(facts),
        metrics=dict(metrics or {}),
        seed=seed,
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        created=created,
    )


def data_sentence(train: Sequence[Case], chose: int, record: RecordFormat | None) -> str:
    """Return the card's sentence on the training data.

    It counts training and validation cases and, for models that read records, the training
    cases with each group of the record.
    """
    sentence = f"{_count_cases(train)} for training, {chose} for validation"
    if record is None:
        return sentence
    clinical = [case.bags[0].clinical for case in train]
    present = torch.stack([tokens.present for tokens in clinical if tokens is not None])
    counts = zip(record.clinical.groups, present.sum(dim=0).tolist(), strict=True)
    present_groups = ", ".join(f"{count} have {name}" for name, count in counts)
    return f"{sentence}; of the training {unit_of(train)} {present_groups}"


def _count_cases(cases: Sequence[Case]) -> str:
    counted = f"{len(cases)} {unit_of(cases)}"
    persons = len({case.person for case in cases})
    return counted if unit_of(cases) == "patients" else f"{counted} of {persons} patients"


def _feature_fields(facts: Sequence[BagFacts], mixed: bool) -> dict[str, Any]:
    """Return the card's fields that depend on the features."""
    known = [one.mpp for one in facts if one.mpp is not None]
    sizes = [one.pixels for one in facts if one.pixels is not None]
    return {
        "encoder": _one("encoder", {one.encoder for one in facts}),
        "mpp": median(known) if known else None,
        "pixels": _pixels(sizes, mixed) if sizes else None,
        "overlap": _overlap(facts),
        "readers": tuple(sorted({one.reading.version for one in facts} - {0})),
        "notes": reading_caveats((one.reading for one in facts), sure=True),
        "synthetic": any(one.synthetic for one in facts),
    }


def _pixels(sizes: Sequence[int], mixed: bool) -> int:
    return mode(sizes) if mixed else _one("patch size in pixels", set(sizes))


def _overlap(facts: Sequence[BagFacts]) -> float | None:
    pairs = [(one.stride, one.patch_size) for one in facts]
    shares = [1 - stride / size for stride, size in pairs if stride and size]
    return median(shares) if shares else None


def _one(noun: str, values: set[Value]) -> Value:
    if len(values) != 1:
        listed = ", ".join(sorted(f"{value}" or "unnamed" for value in values))
        raise ValueError(f"the training bags must have one {noun}, not {listed or 'none'}")
    return values.pop()
