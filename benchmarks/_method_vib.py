"""VIB: whether the bottleneck finds lesions, and whether fine-tuning on what it chose helps.

On feature bags, 64 patches kept:

- `map_auroc` is of π ("selection"), the method's own map, fixed before anything was measured;
  "patch logit" and "attention" stand beside it, attention only among the kept (the dropped
  count as 0);
- "recall, chosen" is the share of a held-out slide's lesion patches among the kept; "recall,
  random" that of as many patches drawn at random;
- "auc, 64 random patches" is of the same model pooling 64 random patches of each slide
  instead of the 64 of the largest π;
- "mean_mse" holds only the mean of π at the prior, as the authors' program does, instead of
  the divergence of each patch from it; "no information" leaves the term out.

On pixels (painted patches of 24 px, about 100 a slide; a convolutional network of three layers
that has learned image statistics without labels): a bottleneck is fitted to the features of the
encoder as it is and chooses 8 patches of each slide; encoder and an ABMIL head are trained on
the chosen for 10 epochs; all patches are encoded again. "pixels: auc" is the mean over 3 new
ABMIL heads, by held-out slides: "before" fine-tuning, "after" it, and after it on as many patches
chosen at random once ("control"). "probe" is a logistic regression on patch labels: how well a
lesion can be told at all. --quick has fewer slides and one head.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from _study import study, trained
from torch import nn

from napari_wsimil.features.bag import take_patches
from napari_wsimil.features.case import Case
from napari_wsimil.models import create_model
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import Planted, map_auroc, probe
from napari_wsimil.synthetic.bags_pixels import Nuclei, PlantedPixels, plant_pixels
from napari_wsimil.training.config import recipe
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.finetune import CONFIG, EndToEnd, encode, finetune
from napari_wsimil.training.finetune_data import SmallCNN, pixel_case
from napari_wsimil.training.fit import FitConfig, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _study import Study
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models import MILModel

TITLE = "information bottleneck, slides with planted lesions, in features and in pixels"
CLAIMS = (
    ("the bottleneck keeps lesions more often than chance", "recall, chosen", "recall, random"),
    ("what it keeps tells more than random patches", "auc", "auc, 64 random patches"),
    (
        "the divergence of each patch maps better than the mean's",
        "map_auroc",
        "map_auroc, mean_mse",
    ),
    ("the information term helps the map", "map_auroc", "map_auroc, no information"),
    (
        "in pixels it keeps twice the lesions of chance before fine-tuning",
        "pixels: recall, chosen",
        "pixels: twice the recall, random",
    ),
    ("fine-tuning helps", "pixels: auc, after", "pixels: auc, before"),
    (
        "fine-tuning on the chosen helps more than on random patches",
        "pixels: auc, after",
        "pixels: auc, control",
    ),
)

KEEP = 64
VARIANTS = {"mean_mse": {"info": "mean_mse"}, "no information": {"beta": 0.0}}

PIXELS_KEEP, DIM = 8, 32
SCALES = (1, 2, 4, 8)  # pixels
SHAPE = {"width": 64, "attention_dim": 32}
HEAD = FitConfig(epochs=12, lr=2e-3, noise=0.3, drop=0.3)


def run(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of a seed."""
    return _features(seed, quick) | _pixels(seed, quick)


def _features(seed: int, quick: bool) -> dict[str, float]:
    data = study(seed, quick)
    config = replace(recipe("vib"), seed=seed, epochs=24 if quick else recipe("vib").epochs)
    model = trained("vib", seed, data, config, keep=KEEP)
    scores = finish(evaluate(model, [one.case for one in data.test]))
    right = scores.probabilities.argmax(dim=1) == scores.targets
    figures = {
        "accuracy": right.float().mean().item(),
        "auc": _auc(model, [one.case for one in data.test]),
        "map_auroc": _map_auroc(model, data, "selection"),
        "ceiling": data.ceiling,
        "patch logit auroc": _map_auroc(model, data, "patch logit: 1"),
        "attention auroc": _map_auroc(model, data, "attention"),
        "auc, 64 random patches": _auc(model, [_random_case(one, seed) for one in data.test]),
        **_recalls([model.select(one.bag) for one in data.test], data.test, KEEP),
    }
    for title, shape in VARIANTS.items():
        other = trained("vib", seed, data, config, keep=KEEP, **shape)
        figures[f"auc, {title}"] = _auc(other, [one.case for one in data.test])
        figures[f"map_auroc, {title}"] = _map_auroc(other, data, "selection")
    return figures


def _auc(model: MILModel, cases: Sequence[Case]) -> float:
    return finish(evaluate(model, cases)).metrics()["auc"]


@torch.no_grad()
def _map_auroc(model: MILModel, data: Study, name: str) -> float:
    def scores(one: Planted) -> Tensor:
        found = next(m for m in model(one.bag).explanations if m.name == name)
        return found.scores.nan_to_num(0.0)

    return map_auroc(data.test, scores)


def _recalls(
    chosen: Sequence[Tensor], slides: Sequence[Planted | PlantedPixels], keep: int
) -> dict[str, float]:
    """Return which share of the lesion patches was chosen, and would be at random."""
    ill = [(index.numpy(), one.truth) for index, one in zip(chosen, slides, strict=True)]
    ill = [(index, truth) for index, truth in ill if truth.any()]
    return {
        "recall, chosen": float(
            np.mean([truth[index].sum() / truth.sum() for index, truth in ill])
        ),
        "recall, random": float(np.mean([min(1.0, keep / len(truth)) for _, truth in ill])),
    }


def _random_case(one: Planted, seed: int) -> Case:
    index = _random(len(one.bag), KEEP, torch.Generator().manual_seed(seed))
    return replace(one.case, bags=(take_patches(one.bag, index),))


def _random(count: int, keep: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:keep].sort().values


@dataclass(frozen=True, eq=False)
class Encoded:
    """Painted slides as one encoder sees them."""

    train: tuple[Planted, ...]
    test: tuple[Planted, ...]

    def auc(self, heads: int) -> float:
        """Return the mean AUC, on held-out slides, of new heads."""
        test = [one.case for one in self.test]
        return float(np.mean([_auc(self.head("abmil", seed), test) for seed in range(heads)]))

    def head(self, name: str, seed: int, **shape: int) -> MILModel:
        """Return a model fitted to the training slides."""
        torch.manual_seed(seed)
        model = create_model(name, feature_dim=DIM, classes=2, **SHAPE, **shape)
        train = [one.case for one in self.train]
        finish(fit(model, train, [], replace(HEAD, seed=seed)))
        return model

    def probe_auroc(self) -> float:
        """Return how well patch labels can be learned."""
        return map_auroc(self.test, probe(self.train))


def _pixels(seed: int, quick: bool) -> dict[str, float]:
    heads, counts = (1, (80, 40)) if quick else (3, (160, 80))
    train, test = (
        plant_pixels(Nuclei(), count, start + seed)
        for count, start in zip(counts, (1000, 2000), strict=True)
    )
    encoder = _pretrained(train, seed)
    before = _encoded(encoder, train, test)
    bottleneck = before.head("vib", seed, keep=PIXELS_KEEP)
    generator = torch.Generator().manual_seed(seed)
    chosen = [bottleneck.select(one.bag) for one in before.train]
    random = [_random(len(one.slide), PIXELS_KEEP, generator) for one in train]
    warm = before.head("abmil", seed)
    after, control = (
        _encoded(_finetuned(encoder, warm, train, index, seed), train, test)
        for index in (chosen, random)
    )
    recalls = _recalls(chosen, train, PIXELS_KEEP)
    figures = {
        **recalls,
        "twice the recall, random": 2 * recalls["recall, random"],
        "auc, before": before.auc(heads),
        "auc, after": after.auc(heads),
        "auc, control": control.auc(heads),
        "probe, before": before.probe_auroc(),
        "probe, after": after.probe_auroc(),
        "probe, control": control.probe_auroc(),
    }
    return {f"pixels: {name}": value for name, value in figures.items()}


def _pretrained(slides: Sequence[PlantedPixels], seed: int) -> nn.Module:
    """Return an encoder that has learned the image statistics of patches, without labels."""
    torch.manual_seed(seed)
    encoder = SmallCNN(DIM)
    model = nn.Sequential(encoder, nn.Linear(DIM, 3 + len(SCALES)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    patches = torch.cat([one.slide.pixels(torch.arange(len(one.slide))) for one in slides])
    x = patches.float() / 255  # (P, 3, S, S)
    y = torch.cat([_statistics(part) for part in x.split(1024)])
    y = (y - y.mean(dim=0)) / y.std(dim=0)
    for index in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        F.mse_loss(model(x[index]), y[index]).backward()
        optimizer.step()
    return encoder


def _statistics(x: Tensor) -> Tensor:
    """Return (P, 3 + scales): the mean of each color, and the contrast at some scales."""
    gray = x.mean(dim=1, keepdim=True)  # (P, 1, S, S)
    contrasts = [F.avg_pool2d(gray, scale).std(dim=(1, 2, 3)) for scale in SCALES]
    return torch.cat([x.mean(dim=(2, 3)), torch.stack(contrasts, dim=1)], dim=1)


def _encoded(
    encoder: nn.Module, train: Sequence[PlantedPixels], test: Sequence[PlantedPixels]
) -> Encoded:
    bags = finish(encode(encoder, [one.slide for one in (*train, *test)]))
    planted = [_as_planted(bag, one) for bag, one in zip(bags, (*train, *test), strict=True)]
    return Encoded(tuple(planted[: len(train)]), tuple(planted[len(train) :]))


def _as_planted(bag: Bag, one: PlantedPixels) -> Planted:
    return Planted(Case(one.slide.name, (bag,), one.target), one.truth)


def _finetuned(
    encoder: nn.Module,
    head: MILModel,
    slides: Sequence[PlantedPixels],
    chosen: Sequence[Tensor],
    seed: int,
) -> nn.Module:
    """Return a copy of the encoder, trained on the chosen patches of the slides."""
    encoder = copy.deepcopy(encoder)
    cases = [
        pixel_case(one.slide.name, [one.slide], [index], one.target)
        for one, index in zip(slides, chosen, strict=True)
    ]
    model = EndToEnd(encoder=encoder, head=copy.deepcopy(head), pixels=Nuclei().pixels)
    finish(finetune(model, cases, config=replace(CONFIG, seed=seed)))
    return encoder
