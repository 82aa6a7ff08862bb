"""Models of no opinion and features of no meaning: their time and their memory are real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.models import create_model
from napari_wsimil.models.card import Card
from napari_wsimil.slides.patch_grid import PatchGrid, lay_grid
from napari_wsimil.training.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue

#: Sub-patches of a patch, of finer features.
_FINE = 16


def save_untrained(
    path: Path,
    name: str = "acmil",
    classes: tuple[str, ...] = ("normal", "tumor"),
    record: RecordFormat | None = None,
    **options: int | float | str,
) -> Path:
    """Write a model for the built-in encoder and return its file."""
    torch.manual_seed(0)
    encoder = create_encoder().card
    model = create_model(name, feature_dim=encoder.dim, classes=len(classes), **options)
    card = Card(
        model=name,
        config=model.config,
        encoder=encoder.identity,
        encoder_dim=encoder.dim,
        mpp=0.5,
        pixels=224,
        overlap=0.0,
        classes=classes,
        record=record,
        data="nothing, untrained",
        synthetic=True,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )
    save_checkpoint(path, model, card)
    return path


def random_bag(slide: Slide, tissue: Tissue, patches: int, fine: bool = False) -> Bag:
    """Return so many patches on tissue, as large as they can be, with features drawn at random.

    Parameters
    ----------
    fine
        Whether each patch has finer features, drawn when they are asked for.
    """
    encoder = create_encoder().card
    features = torch.randn(patches, encoder.dim, generator=torch.Generator().manual_seed(0))
    return Bag(
        features,
        encoder=encoder.identity,
        grid=_grid(slide, tissue, patches),
        finer=_finer(features) if fine else None,
        slide=slide.fingerprint,
        synthetic=True,
    )


def _grid(slide: Slide, tissue: Tissue, patches: int) -> PatchGrid:
    """Return a grid whose patches are 16 px times a whole number wide, less some at random."""
    for side in range(512, 0, -16):
        grid = lay_grid(slide, tissue, side, side, 224)
        if len(grid) >= patches:
            kept = np.random.default_rng(0).permutation(len(grid))[:patches]
            return PatchGrid(grid.coords[np.sort(kept)], side, side, 224, grid.mpp, grid.slide_size)
    raise ValueError(f"{slide.name} has no room for {patches} patches of 16 px")


def _finer(features: Tensor) -> Callable[[int], Tensor]:
    """Return index of a patch → (k, D) features that scatter about its own."""

    def finer(patch: int) -> Tensor:
        random = torch.Generator().manual_seed(patch)
        return features[patch] + torch.randn(_FINE, features.shape[1], generator=random)

    return finer


def random_cases(count: int, patches: int) -> list[Case]:
    """Return patients to train on, of two classes, one slide each."""
    encoder, random = create_encoder().card, torch.Generator().manual_seed(1)
    return [
        Case(
            f"p{number}",
            (Bag(torch.randn(patches, encoder.dim, generator=random), encoder.identity),),
            number % 2,
        )
        for number in range(count)
    ]
