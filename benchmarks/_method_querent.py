"""Querent on slides with planted lesions, choosing regions by scores, by less, or at random.

map_auroc is of "patch logit: 1", what a patch says to the head after it has looked at its
regions, fixed before anything was measured; attention_auroc, of the pooling's softmax
attention, stands beside it. Regions are squares of 4 by 4 places, so that a slide has some
20 to 50 and a patch chooses 5 of them.

"max only" leaves the least features of the regions out; "random regions" chooses 5 regions by
the patch's place, the same at every epoch, and learns no choice. In this world a lesion can be
told by its own features, without looking anywhere: the ablations say what the choice costs or
brings there, not what it would on slides where context decides.

Trained by `recipe("querent")`: 8 epochs (12 of the fewer slides of --quick) of AdamW at 1e-3,
one-cycle, noise 0.3 on standardized features, every patch in every step.
"""

from __future__ import annotations

from dataclasses import replace

from _study import measured, study, trained

from napari_wsimil.learning.recipes import recipe

TITLE = "Querent, slides with planted lesions"
CLAIMS = (
    ("min-max regions map better than max only", "map_auroc", "map_auroc, max only"),
    ("min-max regions map better than random", "map_auroc", "map_auroc, random regions"),
    ("min-max regions classify better than max only", "auc", "auc, max only"),
    ("min-max regions classify better than random", "auc", "auc, random regions"),
    ("the evidence map finds lesions better than attention", "map_auroc", "attention_auroc"),
)

SHAPE = {"width": 64, "heads": 4, "attention_dim": 64, "region_size": 16, "metadata_dim": 32}
ABLATIONS = {"max only": "max", "random regions": "random"}


def run(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of Querent, and of it choosing regions otherwise."""
    figures = _run(seed, quick, "min-max")
    for title, scorer in ABLATIONS.items():
        without = _run(seed, quick, scorer)
        figures |= {f"{key}, {title}": without[key] for key in without if key != "ceiling"}
    return figures


def _run(seed: int, quick: bool, scorer: str) -> dict[str, float]:
    data, config = study(seed, quick), recipe("querent")
    config = replace(config, seed=seed, epochs=12 if quick else config.epochs)
    return measured(trained("querent", seed, data, config, **SHAPE, scorer=scorer), data)
