"""MIL models, one file per paper, behind one contract (`base`)."""

from __future__ import annotations

from napari_wsimil.models.abmil import ABMIL
from napari_wsimil.models.acmil import ACMIL
from napari_wsimil.models.base import MILModel
from napari_wsimil.models.bd import BD
from napari_wsimil.models.full_attention import FullAttention
from napari_wsimil.models.longmil import LongMIL
from napari_wsimil.models.persam.live import PersAMLive
from napari_wsimil.models.persam.model import PersAM
from napari_wsimil.models.pooling_baselines import MaxPool, MeanPool
from napari_wsimil.models.querent import Querent
from napari_wsimil.models.sasha import HAFED, SASHA
from napari_wsimil.models.transmil import TransMIL
from napari_wsimil.models.vib import VIB

__all__ = ["MODELS", "MILModel", "create_model", "model_class", "name_of"]

MODELS: dict[str, type[MILModel]] = {
    "abmil": ABMIL,
    "acmil": ACMIL,
    "attention": FullAttention,
    "bd": BD,
    "hafed": HAFED,
    "longmil": LongMIL,
    "maxpool": MaxPool,
    "meanpool": MeanPool,
    "persam": PersAM,
    "persam-live": PersAMLive,
    "querent": Querent,
    "sasha": SASHA,
    "transmil": TransMIL,
    "vib": VIB,
}


def create_model(name: str, **config: int | float | str) -> MILModel:
    """Return a new model of the registry.

    Its weights are drawn from torch's random state; ValueError for unknown names or arguments.
    """
    cls = model_class(name)
    try:
        return cls(**config)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"cannot create {name} with {config}: {error}") from error


def model_class(name: str) -> type[MILModel]:
    """Return the class registered under a name."""
    if name not in MODELS:
        raise ValueError(f'unknown model "{name}": choose one of {", ".join(MODELS)}')
    return MODELS[name]


def name_of(model: MILModel) -> str:
    """Return the registered name of a model's class."""
    for name, cls in MODELS.items():
        if type(model) is cls:
            return name
    raise ValueError(f"{type(model).__name__} is not a registered model: add it to MODELS")
