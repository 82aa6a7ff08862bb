"""Facts of the models, for `models`."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from napari_wsimil.models import MODELS, model_class
from napari_wsimil.training.config import recipe
from napari_wsimil.training.import_weights import release_notes
from napari_wsimil.training.import_weights_names import WHOLE
from napari_wsimil.training.options import options_of, reads_records
from napari_wsimil.training.tasks import Task


def model_facts(name: str | None) -> dict[str, Any]:
    """Return the facts of one model, or a summary of all."""
    if name is not None:
        options = {
            option: {"default": one.default, "means": one.text}
            for option, one in options_of(name).items()
        }
        return _summary(name) | {"options": options}
    return {
        model: _summary(model) | {"options": {n: o.default for n, o in options_of(model).items()}}
        for model in MODELS
    }


def _summary(name: str) -> dict[str, Any]:
    cls, config = model_class(name), recipe(name)
    record = ["record"] if reads_records(name) else []
    return {
        "method": _first_line(sys.modules[cls.__module__]),
        "does": _first_line(cls),
        "tasks": [task.value for task in Task if cls.survives or task is Task.CLASSIFICATION],
        "needs": sorted({*(need.value for need in cls.needs), *record}),
        **({"imported weights": _imported(name)} if name in WHOLE else {}),
        "training": {"epochs": config.epochs, "lr": config.lr, "accumulate": config.accumulate},
    }


def _imported(name: str) -> str:
    return "; ".join(release_notes(name)) or "answer as in the authors' program"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
