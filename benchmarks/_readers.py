"""Readers: who says of a mosaic how likely it has tumor, and where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import torch
from _tiles import Mosaic, Tiles, bag_of
from scipy.stats import rankdata
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from napari_wsimil.explain.predict import predict
from napari_wsimil.features.case import Case
from napari_wsimil.models import create_model
from napari_wsimil.progress import finish
from napari_wsimil.training.fit import FitConfig, fit
from napari_wsimil.training.model_card import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Reader = Callable[[Mosaic], "Answer"]

#: Of every model, on every split and share.
CONFIG = FitConfig(epochs=12, lr=1e-3, drop=0.8, noise=0.5)
#: Maps of a model, by what the figure of each is called.
MAPS = {
    "map_auroc": "patch logit: 1",
    "attention_auroc": "attention",
    "evidence_auroc": "evidence: 1",
}


@dataclass(frozen=True)
class Answer:
    """What is said of a mosaic: a score of the slide and, by name in `MAPS`, (N,) of its tiles."""

    slide: float
    maps: dict[str, NDArray[np.float64]]


def train(name: str, mosaics: Sequence[Mosaic], tiles: Tiles, seed: int) -> Reader:
    """Return what model `name` says after it was trained on the labels of mosaics."""
    cases = [
        Case(f"mosaic {number}", (bag_of(mosaic, tiles),), int(mosaic.positive))
        for number, mosaic in enumerate(mosaics)
    ]
    torch.manual_seed(seed)
    model = create_model(name, feature_dim=tiles.features.shape[1], classes=2)
    finish(fit(model, cases, [], replace(CONFIG, seed=seed)))
    today = datetime.now(UTC).date().isoformat()
    card = describe(
        model,
        cases,
        classes=("normal", "tumor"),
        data=f"{len(cases)} mosaics",
        seed=seed,
        salt=name,
        created=today,
    )

    def read(mosaic: Mosaic) -> Answer:
        said = predict(model, card, bag_of(mosaic, tiles))
        scores = {e.name: e.scores.double().numpy() for e in said.explanations}
        maps = {name: scores[map_] for name, map_ in MAPS.items() if map_ in scores}
        return Answer(float(said.logits[1] - said.logits[0]), maps)

    return read


def probe(parts: Sequence[int], tiles: Tiles) -> Reader:
    """Return what a support vector machine says after it was trained on labels of tiles.

    Of a slide it says the mean over its tiles. On part 5 an RBF kernel with C = 10 had an AUROC
    of 0.94, no other C from 1 to 100 more, and logistic regression 0.86.
    """
    chosen = np.isin(tiles.part, parts)
    machine = make_pipeline(StandardScaler(), SVC(C=10, class_weight="balanced"))
    machine.fit(tiles.features.numpy()[chosen], tiles.tumor[chosen])
    margins: NDArray[np.float64] = machine.decision_function(tiles.features.numpy())

    def read(mosaic: Mosaic) -> Answer:
        scores = margins[mosaic.tiles]
        return Answer(float(scores.mean()), {"map_auroc": scores})

    return read


def auroc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the share of positive and negative pairs in the right order, ties half."""
    count = int(positive.sum())
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(scores) - count)))


def measure(read: Reader, mosaics: Sequence[Mosaic], tumor: NDArray[np.bool_]) -> dict[str, float]:
    """Return "auc" over mosaics and, as in `MAPS`, mean AUROC of tiles within positive ones."""
    answers = [read(mosaic) for mosaic in mosaics]
    positive = np.array([mosaic.positive for mosaic in mosaics])
    figures = {"auc": auroc(positive, np.array([answer.slide for answer in answers]))}
    found = [(m, a.maps) for m, a in zip(mosaics, answers, strict=True) if m.positive]
    for name in answers[0].maps:
        figures[name] = float(np.mean([auroc(tumor[m.tiles], maps[name]) for m, maps in found]))
    return figures
