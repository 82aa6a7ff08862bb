"""Study: planted slides to train on and held-out ones, and what is measured of a model on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.models import create_model
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import Lesions, Planted, map_auroc, plant, probe
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import fit

if TYPE_CHECKING:
    from napari_wsimil.models import MILModel
    from napari_wsimil.training.fit import FitConfig

MAP = "patch logit: 1"  # the map of evidence for a lesion
TOP = 10  # patches whose share of the attention is told


@dataclass(frozen=True, eq=False)
class Study:
    """Slides of one world: every second one has lesions, 2 to 5 % of its patches."""

    train: tuple[Planted, ...]
    test: tuple[Planted, ...]
    ceiling: float


@lru_cache(maxsize=1)
def study(seed: int, quick: bool) -> Study:
    """Return the slides of a seed: 200 to train on and 60 held out, or 80 and 30.

    The world, and with it what a lesion looks like, is another one for each seed.
    """
    recipe = Lesions(world=seed)
    train = plant(recipe, 80 if quick else 200, 1000 + seed)
    test = plant(recipe, 30 if quick else 60, 2000 + seed)
    return Study(train, test, map_auroc(test, probe(train)))


def trained(
    name: str, seed: int, data: Study, config: FitConfig, **shape: int | float | str
) -> MILModel:
    """Return a model of the registry, fitted to the training slides from a seed."""
    torch.manual_seed(seed)
    dim = data.train[0].bag.features.shape[1]
    model = create_model(name, feature_dim=dim, classes=2, **shape)
    finish(fit(model, [one.case for one in data.train], [], config))
    return model


@torch.no_grad()
def measured(model: MILModel, data: Study) -> dict[str, float]:
    """Return accuracy, auc, map_auroc and ceiling; of attention, its AUROC and top share.

    "attention_auroc" is that of the attention as a map of lesions, "attention_top10" the
    share of a positive slide's attention that its ten most attended units have, patches or
    what a model makes of them.
    """
    scores = finish(evaluate(model, [one.case for one in data.test]))
    right = scores.probabilities.argmax(dim=1) == scores.targets
    maps = {one: {m.name: m for m in model(one.bag).explanations} for one in data.test}
    figures = {
        "accuracy": right.float().mean().item(),
        "auc": scores.metrics()["auc"],
        "map_auroc": map_auroc(data.test, lambda one: maps[one][MAP].per_patch()),
        "ceiling": data.ceiling,
    }
    if "attention" in maps[data.test[0]]:
        attention = {one: found["attention"] for one, found in maps.items()}
        figures["attention_auroc"] = map_auroc(data.test, lambda one: attention[one].per_patch())
        tops = [
            attention[one].scores.topk(TOP).values.sum().item()
            for one in data.test
            if one.truth.any()
        ]
        figures["attention_top10"] = float(np.mean(tops))
    return figures
