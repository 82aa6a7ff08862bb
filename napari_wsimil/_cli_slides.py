"""How the command line comes from slides to bags."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil._cli_console import follow, remark
from napari_wsimil.bags.encoders import create_encoder
from napari_wsimil.bags.exchange import open_bag
from napari_wsimil.bags.features import estimate, extract_features
from napari_wsimil.explain.predict import predict
from napari_wsimil.learning.checkpoint import load_checkpoint
from napari_wsimil.learning.cohort import feature_path
from napari_wsimil.space.grid import make_grid
from napari_wsimil.space.slide import open_slide
from napari_wsimil.space.tissue import find_tissue
from napari_wsimil.study.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.manifest import Manifest


@dataclass(frozen=True)
class Patches:
    """How slides are cut and encoded.

    `mpp` is in µm per pixel, `pixels` the side of a patch; `download` allows to fetch weights.
    """

    encoder: str = "stain-texture"
    weights: Path | None = None
    mpp: float = 0.5
    pixels: int = 224
    overlap: float = 0.0
    download: bool = False


def patches_of(card: Card, weights: Path | None = None) -> Patches:
    """Return how the slides were cut and encoded that a model learned from.

    Raises
    ------
    ValueError
        If the model learned from features without places.
    """
    if card.mpp is None or card.pixels is None:
        raise ValueError(
            "the model learned at an unknown µm per pixel: extract features first, and give them"
        )
    name = card.encoder.partition("@")[0]
    return Patches(name, weights, card.mpp, card.pixels, card.overlap or 0.0)


def extract_slide(
    slide_path: Path, target: Path | None, patches: Patches, mpp: float | None = None
) -> Bag:
    """Return the bag of a slide, written to `target` if given; tells the cost first."""
    encoder = create_encoder(patches.encoder, patches.weights, patches.download)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with open_slide(slide_path, mpp=mpp) as slide, _core_to_spare():
        grid = make_grid(slide, find_tissue(slide), patches.mpp, patches.pixels, patches.overlap)
        cost = estimate(slide, grid, encoder)
        remark(
            f"{len(grid)} patches at {grid.mpp:.3g} µm per pixel: about {cost.hours:.2g} hours "
            f"({cost.patches_per_second:.0f} patches/s) and {cost.gigabytes:.2g} GB"
        )
        return follow(extract_features(slide, grid, encoder, target), "encoding")


@contextmanager
def _core_to_spare() -> Iterator[None]:
    """Leave one core to the threads that read patches; torch's would wait for it in a loop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def slides_of(path: Path) -> Iterator[tuple[str, Path, float | None]]:
    """Yield name, path and stated µm per pixel of one slide, or of each in a manifest.

    Raises
    ------
    ValueError
        If a slide of a manifest has no slide_path.
    """
    if path.suffix.lower() != ".csv":
        yield path.stem, path, None
        return
    for patient in read_manifest(path).patients:
        for slide in patient.slides:
            if slide.slide_path is None:
                raise ValueError(f"{path}: slide {slide.slide!r} has no slide_path to extract from")
            yield slide.slide, slide.slide_path, slide.mpp


def extract_missing(manifest: Manifest, folder: Path | None, patches: Patches) -> None:
    """Extract the slides of labeled patients that have no features yet."""
    for patient in manifest.patients:
        for slide in patient.slides if patient.label is not None else ():
            target = feature_path(slide, folder)
            if not target.exists() and slide.slide_path is not None:
                extract_slide(slide.slide_path, target, patches, slide.mpp)


def bag_for(path: Path, card: Card, weights: Path | None, mpp: float | None) -> Bag:
    """Return the bag in a file of features, or of a slide encoded as the model learned it."""
    if path.suffix.lower() in (".h5", ".hdf5", ".pt", ".pth"):
        return open_bag(path)
    return extract_slide(path, None, patches_of(card, weights), mpp)


def predicted(
    checkpoint: Path, path: Path, weights: Path | None, slide_mpp: float | None
) -> Prediction:
    """Return what a model says of a slide, or of a file of features."""
    model, card = load_checkpoint(checkpoint)
    bag = bag_for(path, card, weights, slide_mpp)
    return predict(model, card, bag)
