"""Builders of predictions that tests of several packages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_wsimil.explain.color_scale import Stretch
from napari_wsimil.explain.predict import Prediction
from napari_wsimil.features.bag import Bag
from napari_wsimil.gui.view_state import Display
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.card import Card
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from napari_wsimil.slides.slide import Slide

COORDS = np.array([[0, 0], [64, 0], [64, 64], [320, 192], [936, 636]], np.int64)
RAW = Display(stretch=Stretch.RAW)


def prediction(kind: ExplanationKind, scores: list[float], **metrics: float) -> Prediction:
    card = Card(
        model="abmil",
        config={"feature_dim": 3, "classes": 2},
        encoder="e@1",
        encoder_dim=3,
        classes=("normal", "tumor"),
        data="made for this test",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
        metrics=metrics,
    )
    return Prediction(
        bag=Bag(torch.zeros(len(scores), 3)),
        card=card,
        logits=torch.zeros(2),
        probabilities=torch.full((2,), 0.5),
        explanations=(Explanation("map", kind, torch.tensor(scores)),),
        scalars={},
        warnings=(),
    )


def predicted(slide: Slide, coords: np.ndarray[Any, Any] = COORDS, size: int = 64) -> Prediction:
    scores = [float(number + 1) for number in range(len(coords))]
    found = prediction(ExplanationKind.SCORE, scores)
    grid = PatchGrid(coords, size, size, 64, mpp=0.5, slide_size=slide.dimensions)
    bag = Bag(torch.zeros(len(coords), 3), encoder="e@1", grid=grid, slide=slide.fingerprint)
    object.__setattr__(found, "bag", bag)
    return found
