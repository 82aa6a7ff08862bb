"""Occlusion: rerun a model without some patches, and curves of deletion and insertion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.occlusion import curves, without
from napari_wsimil.explain.predict import explore, predict
from napari_wsimil.explain.statistics import top
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.protocols import SequentialModel
from napari_wsimil.progress import Progress, relabel

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.occlusion import Curves
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work

#: Of what is left out at random, and how often it is drawn.
_SEED, _DRAWS = 0, 5


@dataclass(frozen=True, eq=False)
class Effect:
    """What a model says without some patches, beside as many at random.

    Attributes
    ----------
    patches
        How many were left out.
    after
        (C,) probabilities without them.
    at_random
        (draws, C) without as many drawn at random.
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


def removal_job(model: MILModel, prediction: Prediction, patches: Tensor) -> Work[Effect]:
    """Return what becomes of the prediction without some patches, and without as many at random.

    Raises
    ------
    ValueError
        As `removed`.
    """
    after = yield from _asked(model, prediction, patches)
    random = torch.Generator().manual_seed(_SEED)
    drawn = []
    for _ in range(_DRAWS):
        others = torch.randperm(len(prediction.bag), generator=random)[: len(patches)]
        drawn.append((yield from _asked(model, prediction, others)))
    chosen = torch.zeros(len(prediction.bag)).index_fill(0, patches, 1.0)
    outline = Explanation("left out", ExplanationKind.PROBABILITY, chosen, outlined=True)
    return Effect(len(patches), after, torch.stack(drawn), (outline,))


def _asked(model: MILModel, prediction: Prediction, patches: Tensor) -> Work[Tensor]:
    """Return the (C,) probabilities without some patches, look by look where the model looks."""
    bag, card = without(prediction.bag, patches), prediction.card
    yield Progress(text="asking again")
    if not isinstance(model, SequentialModel):
        return predict(model, card, bag).probabilities
    prediction = yield from relabel(explore(model, card, bag), "asking again")
    return prediction.probabilities


def removal_words(prediction: Prediction, effect: Effect, what: str) -> str:
    """Return each probability before and after, and its range at random, as rich text."""
    low, high = effect.at_random.amin(dim=0).tolist(), effect.at_random.amax(dim=0).tolist()
    rows = zip(
        prediction.card.outcomes,
        prediction.probabilities.tolist(),
        effect.after.tolist(),
        low,
        high,
        strict=True,
    )
    lines = [
        f"{name}: {before:.1%} → <b>{after:.1%}</b> (at random {least:.1%} to {most:.1%})"
        for name, before, after, least, most in rows
    ]
    return f"Without {what}, {effect.patches} patches:<br>" + "<br>".join(lines)


def curves_job(
    model: MILModel, prediction: Prediction, ranking: Explanation, target: int, seed: int = 0
) -> Work[Curves]:
    """Return the deletion and insertion curves of a map's ranking."""
    work = curves(model, prediction, ranking, target=target, seed=seed)
    return (yield from relabel(work, "asking without ever more patches"))
