"""Demo: the small synthetic study that a first start and the tour show."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import is_finished
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.study.create_study import create_study, is_study, open_study
from napari_wsimil.synthetic.cohort import load_recipe, write_patients, write_slides
from napari_wsimil.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.create_study import Study

RESOURCES = Path(__file__).parents[1] / "resources"

#: Of the cohort that the cases are the first of.
CASES = RESOURCES / "demo_cases.toml"

#: How its records are read.
SCHEMA = RESOURCES / "schemas" / "phantom.yaml"

#: How many have a slide, and the study's name, which stands wherever the study is shown.
SHOWN, NAME = 2, "synthetic: built so that the record decides"


@dataclass(frozen=True)
class DemoCase:
    """A patient of the study, with a slide and its features at the scale of persam-live."""

    patient: str
    slide: Path
    features: Path


def cases_in(folder: Path) -> tuple[DemoCase, ...]:
    """Return the cases of the study in a folder; their files need not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_case(folder, patient) for patient in _patients(folder)[:SHOWN])


def make_cases(folder: Path, card: Card) -> Generator[object, None, None]:
    """Yield the progress of what is not there yet: slides, features, then the study itself.

    Parameters
    ----------
    folder
        The study's.
    card
        Of the model that the features are for.

    Raises
    ------
    OSError
        If the folder cannot be written.
    StudyError
        If there is a study that cannot be opened.
    """
    cases = cases_in(folder)
    lacking = {case.slide.stem for case in cases if not case.slide.is_file()}
    yield from write_slides(load_recipe(CASES), folder, lacking)
    for case in cases:
        yield from _extract_case(case, card)
    with closing(_case_study(folder)) as study:
        if not study.manifest().patients:
            study.add(_members(folder, cases), f"the demo's study, {NAME}")


def _case_study(folder: Path) -> Study:
    if is_study(folder):
        return open_study(folder)
    return create_study(folder, read_schema(SCHEMA), name=NAME)


def _members(folder: Path, cases: Sequence[DemoCase]) -> list[Patient]:
    """Return the patients of the study; those not shown are records alone."""
    features = {case.patient: case.features for case in cases}
    return [
        replace(one, slides=tuple(replace(s, feature_path=features[one.name]) for s in one.slides))
        if one.name in features
        else replace(one, slides=(), label=None, split=None, time=None, event=None)
        for one in _patients(folder)
    ]


def _patients(folder: Path) -> Sequence[Patient]:
    manifest = write_patients(load_recipe(CASES), folder)
    patients = read_manifest(manifest, read_schema(SCHEMA)).patients
    manifest.unlink()
    return patients


def _case(folder: Path, patient: Patient) -> DemoCase:
    (slide,) = patient.slides
    assert slide.slide_path is not None  # the cohort is painted
    return DemoCase(patient.name, slide.slide_path, folder / "features" / f"{slide.slide}.h5")


def _extract_case(case: DemoCase, card: Card) -> Generator[object, None, None]:
    if is_finished(case.features):
        return
    assert card.mpp is not None  # it learned from slides
    assert card.pixels is not None
    case.features.parent.mkdir(exist_ok=True)
    with open_slide(case.slide) as slide:
        grid = make_grid(slide, find_tissue(slide), card.mpp, card.pixels, card.overlap or 0.0)
        encoder = create_encoder(card.encoder.partition("@")[0])
        yield from extract_features(slide, grid, encoder, case.features)


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
