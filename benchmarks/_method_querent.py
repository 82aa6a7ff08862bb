"""Querent on slides with planted lesions, choosing regions by scores, by less, or at random.

map_auroc is of "patch logit: 1", what a patch says to the head after it has looked at its
regions, fixed before anything was measured; attention_auroc, of the pooling's softmax
attention, stands beside it. Regions are squares of 8 by 8 places, so that a slide has some
10 to 20 and a patch chooses 5 of them.

"max only" leaves the least features of the regions out; "random regions" chooses 5 regions by
the patch's place, the same at every epoch, and learns no choice. In this world a lesion can be
told by its own features, without looking anywhere: the ablations say what the choice costs or
brings there, not what it would on slides where context decides.

Trained by `recipe("querent")`, but 16 epochs of the fewer slides of --quick. Its noise of 1.0 on
standardized features is more than the pooling baselines have: with 0.3 it learned 200 slides by
heart, and its map fell behind, most of all with regions of 4 by 4 places, once to an inverted
map: what a patch has seen of lesions elsewhere speaks in its own logit.
"""

from __future__ import annotations

from dataclasses import replace

from _study import measured, study, trained

from napari_wsimil.training.config import recipe

TITLE = "Querent, slides with planted lesions"
CLAIMS = (
    ("min-max regions map better than max only", "map_auroc", "map_auroc, max only"),
    ("min-max regions map better than random", "map_auroc", "map_auroc, random regions"),
    ("min-max regions classify better than max only", "auc", "auc, max only"),
    ("min-max regions classify better than random", "auc", "auc, random regions"),
    ("the evidence map finds lesions better than attention", "map_auroc", "attention_auroc"),
)

SHAPE = {"width": 64, "heads": 4, "attention_dim": 64, "metadata_dim": 32}
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
    config = replace(config, seed=seed, epochs=16 if quick else config.epochs)
    return measured(trained("querent", seed, data, config, **SHAPE, scorer=scorer), data)
