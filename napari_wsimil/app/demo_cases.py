"""Demo cases: a small synthetic study, built so that the record decides, ready to be opened.

Every slide has lesions of kinds A and B; the first case's record points to A, the second's to
B. Only these two have slides, features and labels. The others are records alone, so that there
is a cohort to compare with.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.manifest import read_manifest
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.extraction import extract_features
from napari_wsimil.features.store import is_finished
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.study.create_study import create_study, is_study, open_study
from napari_wsimil.synthetic.cohort import load_recipe, write_patients, write_slides

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
        yield from _extract(case, card)
    with closing(_study(folder)) as study:
        if not study.manifest().patients:
            study.add(_members(folder, cases), f"the demo's study, {NAME}")


def _study(folder: Path) -> Study:
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


def _extract(case: DemoCase, card: Card) -> Generator[object, None, None]:
    if is_finished(case.features):
        return
    assert card.mpp is not None  # it learned from slides
    assert card.pixels is not None
    case.features.parent.mkdir(exist_ok=True)
    with open_slide(case.slide) as slide:
        grid = make_grid(slide, find_tissue(slide), card.mpp, card.pixels, card.overlap or 0.0)
        encoder = create_encoder(card.encoder.partition("@")[0])
        yield from extract_features(slide, grid, encoder, case.features)
