"""Names of layers in published weights, mapped to ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GATED = {  # V before U: tanh, then the gate
    r"attention_V\.0": "tanh",
    r"attention_U\.0": "gate",
    r"attention_weights": "score",
}
_LAYER = {
    "norm": "norm",
    r"attn\.qkv": "qkv",
    r"attn\.proj": "out",
    "norm2": "mlp.0",
    r"mlp\.fc1": "mlp.1",
    r"mlp\.fc2": "mlp.3",
}
_CLAM_GATED = {
    r"attention_a(\.0)?": "tanh",
    r"attention_b(\.0)?": "gate",
    r"attention_c": "score",
}


def _inside(theirs: str, ours: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return layer names of a submodule with its prefix."""
    return {rf"{theirs}\.{part}": f"{ours}.{name}" for part, name in names.items()}


_ACMIL_HEADS = {r"classifier\.(\d+)\.fc": r"branch_heads.\1", r"Slide_classifier\.fc": "head"}
_HAFED = {
    **_inside("attention_1", "fine_attention", _GATED),
    **_inside("attention_2", "attention", _GATED),
    **_ACMIL_HEADS,
}
#: Our module names by model; the keys are patterns of the names in a release.
NAMES: dict[str, dict[str, str]] = {
    "acmil": {
        r"dimreduction\.fc1": "embedding",
        **_inside("attention", "attention", _GATED),
        **_ACMIL_HEADS,
    },
    "hafed": _HAFED,
    "sasha": {  # with the agent; FGlobal ends in a norm that our updater lacks
        **_HAFED,
        **_inside(r"actor\.attention", "actor", _GATED),
    },
    "longmil": {  # version 1: layers of the paper's model without its masks
        r"_fc1\.0": "embedding",
        **_inside("layer1", "local_layers.0", _LAYER),
        **_inside("layer2", "local_layers.1", _LAYER),
        **_inside("layer3", "global_layer", _LAYER),
        "norm": "norm",
        "_fc2": "head",
    },
    "vib": {
        r"fc\.0": "embedding",
        "instance_classifier": "selection",
        **_inside("attention_net", "attention", _CLAM_GATED),
        "classifiers": "head",
    },
}

#: Weight (our name) and axis from which each size of a model is read.
_SIZES = {
    "feature_dim": ("embedding.weight", 1),
    "classes": ("head.weight", 0),
    "width": ("embedding.weight", 0),
    "attention_dim": ("attention.tanh.weight", 0),
}
_BRANCHES = {"branches": ("attention.score.weight", 0)}
_HAFED_SIZES = {
    "feature_dim": ("head.weight", 1),
    "classes": ("head.weight", 0),
    "attention_dim": ("attention.tanh.weight", 0),
    **_BRANCHES,
}
SIZES: dict[str, dict[str, tuple[str, int]]] = {
    "acmil": _SIZES | _BRANCHES,
    "longmil": {name: _SIZES[name] for name in ("feature_dim", "classes", "width")},
    "hafed": _HAFED_SIZES,
    "sasha": _HAFED_SIZES,
    "vib": _SIZES,
}

#: Options of a released model that its weights do not determine.
SETTINGS: dict[str, dict[str, int | str]] = {
    "longmil": {"heads": 4, "positions": "alibi", "pooling": "mean"},
    "vib": {"keep": 1024},
}

#: Differences between predictions here and in the authors' program; other models have none.
DIFFERENCES = {
    "longmil": (
        "imported LongMIL weights predict differently here than in the authors' program: that is "
        "version 1, without 2 × 2 pooling and with the radius mask on one head of four"
    ),
    "vib": (
        "imported VIB weights predict differently here than in the authors' program, which pools "
        "the selected patches unweighted; here each is weighted by its selection"
    ),
}

#: Models with every weight in their release; the release of others is partial.
WHOLE = tuple(name for name in NAMES if name != "sasha")
