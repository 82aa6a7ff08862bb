"""Release names: what the layers of the papers' own programs are called here."""

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
    """Return the names of a module's parts, put behind its own name."""
    return {rf"{theirs}\.{part}": f"{ours}.{name}" for part, name in names.items()}


_ACMIL_HEADS = {r"classifier\.(\d+)\.fc": r"branch_heads.\1", r"Slide_classifier\.fc": "head"}
_HAFED = {
    **_inside("attention_1", "fine_attention", _GATED),
    **_inside("attention_2", "attention", _GATED),
    **_ACMIL_HEADS,
}
#: What the modules of a release are called here, by model: a pattern of theirs, and ours.
NAMES: dict[str, dict[str, str]] = {
    "acmil": {
        r"dimreduction\.fc1": "embedding",
        **_inside("attention", "attention", _GATED),
        **_ACMIL_HEADS,
    },
    "hafed": _HAFED,
    "sasha": {  # the agent besides; FGlobal ends in a norm that our updater has not
        **_HAFED,
        **_inside(r"actor\.attention", "actor", _GATED),
    },
    "longmil": {  # of version 1, which has the layers of the paper's model and not its masks
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

#: Where the sizes of a model are read: in which weight of ours, along which axis.
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

#: What a release is of besides its sizes.
SETTINGS: dict[str, dict[str, int | str]] = {
    "longmil": {"heads": 4, "positions": "alibi", "pooling": "mean"},
    "vib": {"keep": 1024},
}

#: How models with a release's weights answer otherwise than its authors' program; the others
#: answer alike.
DIFFERENCES = {
    "longmil": (
        "imported LongMIL weights answer otherwise here than in the authors' program: that is "
        "version 1, which pools no 2 × 2 patches and limits one head of four to the radius"
    ),
    "vib": (
        "imported VIB weights answer otherwise here than in the authors' program, which pools "
        "the kept patches unweighted; here each is weighted by its selection"
    ),
}

#: Models of which a release has every weight; of the others it has a part.
WHOLE = tuple(name for name in NAMES if name != "sasha")
