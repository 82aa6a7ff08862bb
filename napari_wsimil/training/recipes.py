"""Recipes: how each model of the registry is trained unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from napari_wsimil.training.fit import FitConfig, fit
from napari_wsimil.training.sasha import train_hafed, train_sasha

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_wsimil.models.base import MILModel
    from napari_wsimil.training.cases import Case
    from napari_wsimil.training.evaluation import Step
    from napari_wsimil.training.fit import Epoch


class Trainer(Protocol):
    """What trains a model in place, as `fit` does."""

    def __call__(
        self,
        model: MILModel,
        train: Sequence[Case],
        validation: Sequence[Case],
        config: FitConfig | None = None,
    ) -> Generator[Step | Epoch, None, Epoch]: ...


_RECORDS = FitConfig(
    epochs=25, lr=1e-3, accumulate=8, drop=0.0, patches=128, noise=0.0, shift=0.2, record_noise=0.5
)
_PERSAM = replace(_RECORDS, epochs=40, weight_decay=1e-4, clip=1.0, noise=0.4)

_RECIPES: dict[str, FitConfig] = {
    "querent": FitConfig(epochs=10, lr=1e-3, accumulate=2, drop=0.3, noise=1.0),
    "persam": replace(_PERSAM, patches=100),
    "persam-live": _PERSAM,
    "bd": _RECORDS,
    "longmil": FitConfig(epochs=10, lr=1e-3, accumulate=1, drop=0.0, noise=0.5, shift=0.2),
    "vib": FitConfig(epochs=16, lr=2e-3, drop=0.3),
    "hafed": FitConfig(epochs=20, accumulate=2, drop=0.0),
    "sasha": FitConfig(epochs=20, accumulate=2, drop=0.0),
}

_TRAINERS: dict[str, Trainer] = {"hafed": train_hafed, "sasha": train_sasha}


def recipe(name: str) -> FitConfig:
    """Return the settings that a model of the registry is trained with by default."""
    return _RECIPES.get(name, FitConfig())


def trainer(name: str) -> Trainer:
    """Return what trains a model of the registry: `fit`, or stages of its own."""
    return _TRAINERS.get(name, fit)
