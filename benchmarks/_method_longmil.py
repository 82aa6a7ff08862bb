"""LongMIL on slides with planted lesions: what the local mask and the pooling bring.

map_auroc is of "patch logit: 1", what a token of 2 by 2 patches says to the head after the
three layers, painted on its patches, fixed before anything was measured; attention_auroc, of
the pooling's attention, stands beside it. A probe of single patches sets the ceiling; a token
cannot tell its four patches apart, so that a map of tokens stays below it at the rims of
lesions.

"no local mask" lets every patch attend to the whole slide in both local layers; "mean pooling"
is the paper's default, a mean in place of attention over tokens. "small to large" trains on
slides of 200 to 300 patches and tests on slides of 450 to 600, "small to small" tests the same
model on new slides of 200 to 300; both with the mask, and "no local mask, small to large"
without. Slides here are 20 to 35 patches wide, so that a radius of 10 patches already sees
much of them: on whole slides of tens of thousands of patches the mask leaves out far more. A
lesion can be told by its own features: no figure here says what context is worth where
context decides. --quick leaves out all but the mask.

Trained by `recipe("longmil")`: 10 epochs (14 of the fewer slides of --quick) of AdamW at 1e-3,
one-cycle, a step per slide, every patch in it, noise 0.5 on standardized features and a shift
of 0.2 of the slide; one head of width 64. The recipe was found on other worlds, seeds 100 and
101.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from _study import Study, measured, study, trained

from napari_wsimil.synthetic.bags import Lesions, map_auroc, plant, probe
from napari_wsimil.training.config import recipe

if TYPE_CHECKING:
    from napari_wsimil.models import MILModel

TITLE = "LongMIL, slides with planted lesions"
CLAIMS = (
    ("the local mask maps better than none", "map_auroc", "map_auroc, no local mask"),
    ("the local mask classifies better than none", "auc", "auc, no local mask"),
    ("attention pooling maps better than the mean", "map_auroc", "map_auroc, mean pooling"),
    ("attention pooling classifies better than the mean", "auc", "auc, mean pooling"),
    (
        "from small to large slides the mask classifies better than none",
        "auc, small to large",
        "auc, no local mask, small to large",
    ),
    (
        "small to large loses against small to small",
        "auc, small to small",
        "auc, small to large",
    ),
)

SHAPE: dict[str, int | str] = {"width": 64, "attention_dim": 64}
WHOLE = {"radius": 10_000}  # more than any slide is wide
SMALL, LARGE = (200, 300), (450, 600)
KEPT = ("accuracy", "auc", "map_auroc")  # of the ablations


def run(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of LongMIL and of its ablations."""
    data = study(seed, quick)
    figures = measured(_model(seed, data, quick), data)
    figures |= _named(measured(_model(seed, data, quick, **WHOLE), data), "no local mask")
    if quick:
        return figures
    mean = measured(_model(seed, data, quick, pooling="mean"), data)
    return figures | _named(mean, "mean pooling") | _extrapolated(seed)


def _extrapolated(seed: int) -> dict[str, float]:
    small, large = _sizes(seed, SMALL), _sizes(seed, LARGE)
    model, whole = (_model(seed, small, False, **shape) for shape in ({}, WHOLE))
    return (
        _named(measured(model, small), "small to small")
        | _named(measured(model, large), "small to large")
        | _named(measured(whole, large), "no local mask, small to large")
    )


def _sizes(seed: int, tested: tuple[int, int]) -> Study:
    """Return small slides to train on, and slides of `tested` patches held out."""
    train = plant(Lesions(world=seed, patches=SMALL), 200, 3000 + seed)
    test = plant(Lesions(world=seed, patches=tested), 60, 4000 + seed)
    return Study(train, test, map_auroc(test, probe(train)))


def _model(seed: int, data: Study, quick: bool, **shape: int | str) -> MILModel:
    config = recipe("longmil")
    config = replace(config, seed=seed, epochs=14 if quick else config.epochs)
    return trained("longmil", seed, data, config, **SHAPE | shape)


def _named(figures: dict[str, float], what: str) -> dict[str, float]:
    return {f"{key}, {what}": figures[key] for key in KEPT}
