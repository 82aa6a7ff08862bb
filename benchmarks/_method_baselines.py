"""ABMIL, ACMIL and the baselines on slides with planted lesions.

map_auroc is of "patch logit: 1", what a patch alone would say to the head, fixed before
anything was measured; attention_auroc stands beside it, since attention only has to find
enough lesions and need not find all. attention_top10 is the share of a positive slide's
attention that its ten most attended patches have. For `attention` and `transmil` the map is
of the patches after they have looked at each other, so it may move off the lesions.

ACMIL's ablations: "one branch" is masked as five are, "no STKIM" has five branches and nothing
masked. The paper says that branches and STKIM spread attention,
which attention_top10 tells.

All are trained alike: 8 epochs of AdamW (20 of the fewer slides of --quick), one-cycle, noise
0.3 on standardized features, every patch in every step; the learning rate is 3e-3. Those with
self-attention learn at 1e-3 and are 64 wide, the others 256.
"""

from __future__ import annotations

from dataclasses import replace

from _study import measured, study, trained

from napari_wsimil.training.fit import FitConfig

TITLE = "pooling baselines, slides with planted lesions"
CLAIMS = (
    ("five branches spread the attention of one", "attention_top10, one branch", "attention_top10"),
    ("STKIM spreads the attention", "attention_top10, no STKIM", "attention_top10"),
    ("five branches map better than one", "map_auroc", "map_auroc, one branch"),
    ("STKIM maps better", "map_auroc", "map_auroc, no STKIM"),
    (
        "attention finds lesions better than one branch's",
        "attention_auroc",
        "attention_auroc, one branch",
    ),
    ("the evidence map finds lesions better than attention", "map_auroc", "attention_auroc"),
)

CONFIG = FitConfig(epochs=8, lr=3e-3, accumulate=2, drop=0.0, noise=0.3)
SLOW = replace(CONFIG, lr=1e-3)
NARROW = {"width": 64, "attention_dim": 64}


def meanpool(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of mean pooling."""
    return _run("meanpool", seed, quick, CONFIG)


def maxpool(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of max pooling."""
    return _run("maxpool", seed, quick, CONFIG)


def abmil(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of ABMIL."""
    return _run("abmil", seed, quick, CONFIG)


def attention(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of full self-attention."""
    return _run("attention", seed, quick, SLOW, **NARROW)


def transmil(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of attention through landmarks."""
    return _run("transmil", seed, quick, SLOW, **NARROW)


def acmil(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of ACMIL, and of it without branches and without masking."""
    figures = _run("acmil", seed, quick, CONFIG)
    for title, shape in (("one branch", {"branches": 1}), ("no STKIM", {"masked": 0})):
        without = _run("acmil", seed, quick, CONFIG, **shape)
        figures |= {f"{key}, {title}": without[key] for key in without if key != "ceiling"}
    return figures


def _run(name: str, seed: int, quick: bool, config: FitConfig, **shape: int) -> dict[str, float]:
    data = study(seed, quick)
    config = replace(config, seed=seed, epochs=20 if quick else config.epochs)
    return measured(trained(name, seed, data, config, **shape), data)
