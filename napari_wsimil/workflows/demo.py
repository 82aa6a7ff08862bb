"""Demo: the small synthetic study of a first start and of the tour.

Its cases are built so that the clinical record decides. Every slide has lesions of kinds A and
B; the first case's record points to A, the second's to B. Only these two have slides, features
and labels. The others are records alone, a cohort to compare with.
"""

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
from napari_wsimil.features.store import is_finished
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.create_study import create_study, is_study, open_study
from napari_wsimil.synthetic.cohort import load_recipe, write_patients, write_slides
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.pipeline import PatchSettings, encode_slide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.cohort.manifest import Patient
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work
    from napari_wsimil.study.create_study import Study

RESOURCES = Path(__file__).parents[1] / "resources"
#: Of the cohort that the cases are the first of.
CASES = RESOURCES / "demo_cases.toml"
#: How its records are read.
SCHEMA = RESOURCES / "schemas" / "phantom.yaml"
#: How many have a slide, and the study's name, which stands wherever the study is shown.
SHOWN, NAME = 2, "synthetic: built so that the record decides"
RECIPE = RESOURCES / "demo_recipe.toml"
#: A checkpoint for each method, named after it; README.md there says how they were trained.
MODELS = RESOURCES / "models"
#: The method that a first start shows, and the one that the study's cases are for.
FIRST, LIVE = "acmil", "persam-live"
#: What is tried on of the record of the last of these cases, which points to the other lesion.
TRIED = {"ldh": "333"}


@dataclass(frozen=True)
class DemoCase:
    """A patient of the study, with a slide and its features at the scale of persam-live."""

    patient: str
    slide: Path
    features: Path


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


def prepare_cases(folder: Path | str) -> Work[DemoStudy]:
    """Make the missing files of the demo, and return its study.

    As `prepare_demo`, but only the study's cases are ready, which takes a few seconds.
    """
    folder = Path(folder)
    study = _study(folder / _version())
    yield from make_cases(study.study, load_checkpoint(study.checkpoints[LIVE])[1])
    return study


def prepare_demo(folder: Path | str) -> Work[DemoStudy]:
    """Make the missing files of the demo, and return its study.

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


def prepare_tour(folder: Path | str) -> Work[DemoStudy]:
    """Make the missing files of the demo, and return its study.

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


def _paint(manifest: Path, slides: Sequence[str]) -> Work[None]:
    """Paint those of these slides that are not painted yet."""
    there = {path.stem for path in manifest.parent.glob("slides/*.tiff")}
    yield from write_slides(load_recipe(RECIPE), manifest.parent, set(slides) - there)


def _extract(study: DemoStudy, method: str) -> Work[None]:
    """Encode the slide at the scale of a method's model, unless that is done."""
    _, card = load_checkpoint(study.checkpoints[method])
    yield from _encode(study.slide, card, study.features[method])


def _encode(path: Path, card: Card, target: Path) -> Work[None]:
    if not is_finished(target):
        with open_slide(path) as slide:
            yield from encode_slide(slide, PatchSettings.of(card), target=target)


def _scale(checkpoint: Path) -> str:
    """Return pixels and µm per pixel of a model's patches, for the name of a file."""
    settings = PatchSettings.of(load_checkpoint(checkpoint)[1])
    return f"{settings.pixels}px-{settings.mpp:g}um"


def cases_in(folder: Path | str) -> tuple[DemoCase, ...]:
    """Return the cases of the study in a folder; their files need not be there yet."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_case(folder, patient) for patient in _patients(folder)[:SHOWN])


def make_cases(folder: Path | str, card: Card) -> Work[None]:
    """Make the slides, features and study that are missing.

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
    folder = Path(folder)
    cases = cases_in(folder)
    lacking = {case.slide.stem for case in cases if not case.slide.is_file()}
    yield from write_slides(load_recipe(CASES), folder, lacking)
    for case in cases:
        yield from _encode(case.slide, card, case.features)
    with closing(_open_or_create(folder)) as study:
        if not study.manifest().patients:
            study.add(_members(folder, cases), f"the demo's study, {NAME}")


def _open_or_create(folder: Path) -> Study:
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
