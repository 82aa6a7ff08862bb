"""Demo: the small synthetic study that a first start and the tour show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from napari_wsimil.app.demo_cases import CASES, RESOURCES, SCHEMA, DemoCase, cases_in, make_cases
from napari_wsimil.cohort.manifest import Split, read_manifest
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import is_finished
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.synthetic.cohort import load_recipe, write_patients, write_slides
from napari_wsimil.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_wsimil.models.card import Card

RECIPE = RESOURCES / "demo_recipe.toml"
#: A checkpoint for each method, named after it; README.md there says how they were trained.
MODELS = RESOURCES / "models"
#: The method that a first start shows, and the one that the study's cases are for.
FIRST, LIVE = "acmil", "persam-live"
#: What is tried on of the record of the last of these cases, which points to the other lesion.
TRIED = {"ldh": "333"}


@dataclass(frozen=True)
class DemoStudy:
    """A synthetic cohort, one slide of it that no model was trained on, and the models.

    Attributes
    ----------
    manifest, schema
        The cohort, and how its records are read.
    patient, slide
        Who is shown, by name, and the slide.
    checkpoints
        The model of each method, by its name.
    features
        The slide's features at the patch scale of each method's model, by its name; methods of
        the same scale share a file.
    study
        The folder of a study of further patients, whose records decide; see `demo_cases`.
    cases
        Those of them that have a slide.
    """

    manifest: Path
    schema: Path
    patient: str
    slide: Path
    checkpoints: dict[str, Path]
    features: dict[str, Path]
    study: Path
    cases: tuple[DemoCase, ...]

    @property
    def checkpoint(self) -> Path:
        """Return the model that a first start shows."""
        return self.checkpoints[FIRST]


def demo_folder() -> Path:
    """Return where the demo study is kept: the user's cache folder."""
    return user_cache_path("napari-wsimil") / "demo"


def prepare_cases(folder: Path) -> Generator[object, None, DemoStudy]:
    """Yield the progress of what is not there yet, and return the study.

    As `prepare_demo`, but only the study's cases are ready, which takes a few seconds.
    """
    study = _study(folder / _version())
    yield from make_cases(study.study, load_checkpoint(study.checkpoints[LIVE])[1])
    return study


def prepare_demo(folder: Path) -> Generator[object, None, DemoStudy]:
    """Yield the progress of what is not there yet, and return the study.

    Of the cohort's slides only the one shown is painted, and encoded for the model that a first
    start shows; the study's cases are ready. It lies in a folder of its own within `folder`, for
    the recipes and models it is of.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    study = yield from prepare_cases(folder)
    yield from _paint(study.manifest, [study.slide.stem])
    yield from _extract(study, FIRST)
    return study


def prepare_tour(folder: Path) -> Generator[object, None, DemoStudy]:
    """Yield the progress of what is not there yet, and return the study.

    As `prepare_demo`, but the slide that is shown is encoded for every model.
    """
    study = yield from prepare_demo(folder)
    for method in study.features:
        yield from _extract(study, method)
    return study


def _version() -> str:
    """Return 8 hex digits that change with a recipe, the schema or a model."""
    parts = (RECIPE, CASES, SCHEMA, *_checkpoints().values())
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:8]


def _checkpoints() -> dict[str, Path]:
    return {path.stem: path for path in sorted(MODELS.glob("*.safetensors"))}


def _study(folder: Path) -> DemoStudy:
    """Return the study in a folder; its slides and features need not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = write_patients(load_recipe(RECIPE), folder)
    shown = read_manifest(manifest).part(Split.TEST)[0]
    slide = shown.slides[0]
    if slide.slide_path is None:
        raise ValueError(f"{manifest} has no slide_path for its first test patient")
    checkpoints = _checkpoints()
    features = {
        method: folder / f"{slide.slide}-{_scale(path)}.h5" for method, path in checkpoints.items()
    }
    place = folder / "study"
    return DemoStudy(
        manifest,
        SCHEMA,
        shown.name,
        slide.slide_path,
        checkpoints,
        features,
        place,
        cases_in(place),
    )


def _paint(manifest: Path, slides: Sequence[str]) -> Generator[float, None, None]:
    """Paint those of these slides that are not painted yet."""
    there = {path.stem for path in manifest.parent.glob("slides/*.tiff")}
    yield from write_slides(load_recipe(RECIPE), manifest.parent, set(slides) - there)


def _extract(study: DemoStudy, method: str) -> Generator[object, None, None]:
    """Extract what is not extracted yet, at the scale that a method's model learned with."""
    if is_finished(study.features[method]):
        return
    _, card = load_checkpoint(study.checkpoints[method])
    with open_slide(study.slide) as slide:
        mpp, pixels = _patches(card)
        grid = make_grid(slide, find_tissue(slide), mpp, pixels, card.overlap or 0.0)
        encoder = create_encoder(card.encoder.partition("@")[0])
        yield from extract_features(slide, grid, encoder, study.features[method])


def _scale(checkpoint: Path) -> str:
    """Return how a model's patches are cut, for the name of a file."""
    mpp, pixels = _patches(load_checkpoint(checkpoint)[1])
    return f"{pixels}px-{mpp:g}um"


def _patches(card: Card) -> tuple[float, int]:
    """Return µm per pixel and side in pixels of the patches that a model learned from."""
    if card.mpp is None or card.pixels is None:
        raise ValueError(f"the demo's {card.model} states no µm per pixel or patch size")
    return card.mpp, card.pixels
