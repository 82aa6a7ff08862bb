"""Speeds of PersAM after an edit of the record (wall times).

- `persam_all`: new maps of all patches and new logits by the exact update of a prepared slide
  (`PersAMLive.prepare`), against `persam-live` encoding the slide's embedded patches again. The
  baseline is spared the embedding of features, which no edit touches.
- `persam_visible`: new maps of 2,000 patches, the rest of the update not waited for.
- `persam_prepare`: what preparing the slide takes, once.
- `persam_bags`: `persam` in bags of 100, from embedded patches.

Width 512, feed-forward 2048, 3 classes, two groups of 18 and 10 fields, random weights. The
error is of all maps and logits against the model itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from _speed import Row, features, tissue

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.models.persam.live import PersAMLive
from napari_wsimil.models.persam.model import PersAM
from napari_wsimil.progress import finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_wsimil.models.base import MILOutput

WIDTHS = (18, 10)
SHAPE = {"classes": 3, "groups": "18,10", "width": 512, "feedforward": 2048}
VISIBLE = 2_000
CHECKED = 10_000  # patches up to which the error is measured


def rows(n: int) -> Iterator[Row]:
    """Yield the rows of a slide of `n` patches."""
    bag, edited = _bag(n, 0), _bag(n, 1)
    live, bags = _models(bag.features.shape[1])
    with torch.no_grad():
        x = live.embed(bag)
    ready = finish(live.prepare(bag))
    visible = torch.arange(min(VISIBLE, n)) + (n - min(VISIBLE, n)) // 2

    def again() -> MILOutput:
        with torch.no_grad():
            return live.answer(x, edited)

    def update() -> MILOutput:
        return ready.edit(edited.clinical).output()

    error = _difference(update(), again()) if n <= CHECKED else None
    yield Row("persam_all", update, again, error, "ms", clock="wall")
    yield Row("persam_visible", lambda: ready.edit(edited.clinical).maps(visible), clock="wall")
    yield Row("persam_prepare", lambda: finish(live.prepare(bag)), unit="s", clock="wall")
    with torch.no_grad():
        embedded = bags.embed(bag)

    def in_bags() -> MILOutput:
        with torch.no_grad():
            return bags.answer(embedded, edited)

    yield Row("persam_bags", in_bags, clock="wall")


def _bag(n: int, seed: int) -> Bag:
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    values = tuple(torch.randn(width, generator=generator) for width in WIDTHS)
    clinical = ClinicalTokens(values, torch.ones(len(WIDTHS), dtype=torch.bool))
    return Bag(features(n), grid=tissue(n), clinical=clinical)


def _models(dim: int) -> tuple[PersAMLive, PersAM]:
    torch.manual_seed(0)
    live = PersAMLive(feature_dim=dim, **SHAPE).eval()
    return live, PersAM(feature_dim=dim, **SHAPE).eval()


def _difference(one: MILOutput, other: MILOutput) -> float:
    pairs = zip(one.explanations, other.explanations, strict=True)
    maps = [(a.scores - b.scores).abs().max().item() for a, b in pairs]
    return max(*maps, (one.logits - other.logits).abs().max().item())
