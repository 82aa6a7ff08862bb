"""Effects: what the window asks of a model without some patches; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.app.work import Step
from napari_wsimil.explain.effect import curves, removed
from napari_wsimil.explain.ranking import top
from napari_wsimil.models.base import Explanation, ExplanationKind

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from napari_wsimil.explain.effect import Curves
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel

_SEED = 0


@dataclass(frozen=True, eq=False)
class Effect:
    """What a model says without some patches, beside as many at random.

    Attributes
    ----------
    patches
        How many were left out.
    after, at_random
        (C,) probabilities without them, and without as many drawn at random.
    maps
        Their outline.
    """

    patches: int
    after: Tensor
    at_random: Tensor
    maps: tuple[Explanation, ...]


def top_patches(ranking: Explanation, share: float) -> Tensor:
    """Return (Q,) int64, the patches that a map ranks first."""
    return top(ranking, share).nonzero()[:, 0]


def removed_effect(model: MILModel, prediction: Prediction, patches: Tensor) -> Effect:
    """Return what becomes of the prediction without some patches.

    Raises
    ------
    ValueError
        As `removed`.
    """
    after = removed(model, prediction, patches).probabilities
    random = torch.Generator().manual_seed(_SEED)
    others = torch.randperm(len(prediction.bag), generator=random)[: len(patches)]
    chosen = torch.zeros(len(prediction.bag)).index_fill(0, patches, 1.0)
    outline = Explanation("left out", ExplanationKind.PROBABILITY, chosen, outlined=True)
    at_random = removed(model, prediction, others).probabilities
    return Effect(len(patches), after, at_random, (outline,))


def removal_words(prediction: Prediction, effect: Effect, what: str) -> str:
    """Return the change of each probability, as rich text."""
    rows = zip(
        prediction.card.outcomes,
        prediction.probabilities.tolist(),
        effect.after.tolist(),
        effect.at_random.tolist(),
        strict=True,
    )
    lines = [
        f"{name}: {before:.1%} → <b>{after:.1%}</b> ({after - before:+.1%}; at random "
        f"{chance - before:+.1%})"
        for name, before, after, chance in rows
    ]
    return f"Without {what}, {effect.patches} patches:<br>" + "<br>".join(lines)


def curves_job(
    model: MILModel, prediction: Prediction, ranking: Explanation, target: int
) -> Generator[Step, None, Curves]:
    """Return the deletion and insertion curves of a map's ranking."""
    work = curves(model, prediction, ranking, target=target)
    while True:
        try:
            done, total = next(work)
        except StopIteration as finished:
            found: Curves = finished.value
            return found
        yield Step("asking without ever more patches", done, total)
