"""Demo: the small synthetic study that a first start shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from napari_wsimil.bags.encoders import create_encoder
from napari_wsimil.bags.features import extract_features
from napari_wsimil.learning.checkpoint import load_checkpoint
from napari_wsimil.space.grid import make_grid
from napari_wsimil.space.phantom.cohort import load_recipe, write_cohort
from napari_wsimil.space.slide import open_slide
from napari_wsimil.space.tissue import find_tissue
from napari_wsimil.study.manifest import Split, read_manifest

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.study.manifest import Manifest

RESOURCES = Path(__file__).parents[1] / "resources"
RECIPE = RESOURCES / "demo_recipe.toml"
#: Trained on the cohort that `RECIPE` makes.
CHECKPOINT = RESOURCES / "demo.safetensors"


@dataclass(frozen=True)
class DemoStudy:
    """A synthetic cohort, one slide of it that no model was trained on, and a model.

    Attributes
    ----------
    manifest
        The cohort.
    slide, features
        The slide that is shown, and its features.
    checkpoint
        The model.
    """

    manifest: Path
    slide: Path
    features: Path
    checkpoint: Path


def demo_folder() -> Path:
    """Return where the demo study is kept: the user's cache folder."""
    return user_cache_path("napari-wsimil") / "demo"


def prepare_demo(folder: Path) -> Generator[object, None, DemoStudy]:
    """Yield the progress of what is not there yet, and return the study.

    It lies in a folder of its own within `folder`, for the recipe and model it is of.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder = folder / _version()
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.csv"
    if not manifest.exists():  # it is written last
        manifest = yield from write_cohort(load_recipe(RECIPE), folder)
    slide = _unseen_slide(read_manifest(manifest))
    study = DemoStudy(manifest, slide, folder / f"{slide.stem}.h5", CHECKPOINT)
    yield from _extract(study)
    return study


def _version() -> str:
    """Return 8 hex digits that change with the recipe or the model."""
    return hashlib.sha256(RECIPE.read_bytes() + CHECKPOINT.read_bytes()).hexdigest()[:8]


def _unseen_slide(manifest: Manifest) -> Path:
    slide = manifest.part(Split.TEST)[0].slides[0].slide_path
    if slide is None:
        raise ValueError(f"{manifest.path} has no slide_path for its first test patient")
    return slide


def _extract(study: DemoStudy) -> Generator[object, None, None]:
    """Extract what is not extracted yet, at the size the model learned with."""
    _, card = load_checkpoint(study.checkpoint)
    if card.mpp is None or card.pixels is None:
        raise ValueError(f"{study.checkpoint.name} states no µm per pixel or patch size")
    with open_slide(study.slide) as slide:
        grid = make_grid(slide, find_tissue(slide), card.mpp, card.pixels, card.overlap or 0.0)
        encoder = create_encoder(card.encoder.partition("@")[0])
        yield from extract_features(slide, grid, encoder, study.features)
