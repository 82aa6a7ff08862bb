"""Whole-slide images and the maps of multiple-instance-learning models.

The names in `__all__` are the public API. Each is imported on first use, so that importing
the package loads neither torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.explain.counterfactual import WhatIf, what_if
    from napari_wsimil.explain.predict import Prediction, predict
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.slides.patch_grid import PatchGrid, make_grid
    from napari_wsimil.slides.slide import Slide, open_slide
    from napari_wsimil.slides.tissue import Tissue, find_tissue
    from napari_wsimil.study.create_study import open_study
    from napari_wsimil.study.open_study import Study
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.workflows.library import (
        evaluate,
        extract_features,
        load_features,
        load_model,
        query,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Bag",
    "Card",
    "Explanation",
    "MILModel",
    "PatchGrid",
    "Prediction",
    "RunConfig",
    "Slide",
    "Study",
    "Tissue",
    "WhatIf",
    "evaluate",
    "extract_features",
    "find_tissue",
    "load_features",
    "load_model",
    "make_grid",
    "open_slide",
    "open_study",
    "predict",
    "query",
    "train",
    "what_if",
]

#: Public names of each module.
_NAMES = {
    "napari_wsimil.explain.counterfactual": ("WhatIf", "what_if"),
    "napari_wsimil.explain.predict": ("Prediction", "predict"),
    "napari_wsimil.features.bag": ("Bag",),
    "napari_wsimil.models.base": ("Explanation", "MILModel"),
    "napari_wsimil.models.card": ("Card",),
    "napari_wsimil.slides.patch_grid": ("PatchGrid", "make_grid"),
    "napari_wsimil.slides.slide": ("Slide", "open_slide"),
    "napari_wsimil.slides.tissue": ("Tissue", "find_tissue"),
    "napari_wsimil.study.create_study": ("open_study",),
    "napari_wsimil.study.open_study": ("Study",),
    "napari_wsimil.training.config": ("RunConfig",),
    "napari_wsimil.workflows.library": (
        "evaluate",
        "extract_features",
        "load_features",
        "load_model",
        "query",
        "train",
    ),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
