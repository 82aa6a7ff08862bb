"""The demo study and its models: made as needed, shipped whole, and worth a look."""

from __future__ import annotations

import csv
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sklearn.metrics import roc_auc_score

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.cohort.manifest_file import read_manifest
from napari_wsimil.explain.predict import Prediction, predict
from napari_wsimil.explain.sensitivity import ranked, sweep
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.store import is_finished, load_bag
from napari_wsimil.features.subpatches import with_finer
from napari_wsimil.gui.startup import Opening
from napari_wsimil.models.base import Need
from napari_wsimil.progress import finish
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import open_study
from napari_wsimil.synthetic import load_recipe, load_truth, patch_truth
from napari_wsimil.synthetic.clinical import DECIDING
from napari_wsimil.synthetic.cohort import write_patients, write_slides
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.workflows import demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_wsimil.models.base import Explanation


SHIPPED = demo.RECIPE
METHODS = ("acmil", "bd", "longmil", "persam", "persam-live", "querent", "sasha", "vib")
OF_RECORDS = ("bd", "persam", "persam-live")
#: Patients with lesions A and B each, so that the record alone tells which is theirs.
RECIPE = """
patients = 4
slides = [1, 2]
seed = 3
ambiguous = 1.0
lesion_share = [0.2, 0.25]
validation = 0.25
test = 0.25

[slide]
width = 1280
height = 1280
pieces = 1
folds = 0
pen_marks = 0
"""
TO_A = {"ldh": "420", "beta2_microglobulin": "4", "albumin": "34"}
TO_B = {"ldh": "130", "beta2_microglobulin": "1.7", "albumin": "45"}


@dataclass(frozen=True)
class Prepared:
    """A small demo study, and the files there were when it was ready for a first start."""

    study: demo.DemoStudy
    at_first: set[str]

    def files(self) -> dict[str, int]:
        """Return when each slide and features file was written."""
        folder = self.study.manifest.parent
        found = [*folder.glob("slides/*.tiff"), *folder.glob("*.h5")]
        return {path.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for the demo study, which is a small one as long as this lives."""
    place = tmp_path_factory.mktemp("demo")
    recipe = place / "recipe.toml"
    recipe.write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "RECIPE", recipe)
        yield place


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    at_first = set(Prepared(finish(demo.prepare_demo(folder)), set()).files())
    return Prepared(finish(demo.prepare_tour(folder)), at_first)


def answer(study: demo.DemoStudy, method: str, edit: dict[str, str] | None = None) -> Prediction:
    """Return what a shipped model says of the slide shown, the record edited or as it is."""
    model, card = load_checkpoint(study.checkpoints[method])
    bag = load_bag(study.features[method])
    with study.manifest.open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if r["patient_id"] == study.patient)
    record = card.record and card.record.clinical.parse(
        {field.name: row[field.name] for field in card.record.clinical.fields} | (edit or {})
    )
    if Need.FINER not in model.needs:
        return predict(model, card, bag, record)
    with open_slide(study.slide) as slide:
        return predict(model, card, with_finer(bag, slide, create_encoder("stain-texture")))


def by_patch(map_: Explanation) -> Tensor:
    """Return the score of each patch, also where one is of several."""
    return map_.scores if map_.index is None else map_.scores[map_.index]


def test_a_first_start_makes_only_the_slide_it_shows(prepared: Prepared) -> None:
    study = prepared.study
    assert prepared.at_first == {study.slide.name, study.features[demo.FIRST].name}
    assert study.checkpoint == study.checkpoints[demo.FIRST]
    assert len(read_manifest(study.manifest).patients) == 4


def test_the_tour_has_features_at_each_models_scale(prepared: Prepared) -> None:
    study = prepared.study
    for method in METHODS:
        _, card = load_checkpoint(study.checkpoints[method])
        grid = load_bag(study.features[method]).grid
        assert grid is not None
        assert (grid.mpp, grid.pixels) == (card.mpp, card.pixels)


def test_the_study_has_cases_that_open_and_a_cohort_of_records(prepared: Prepared) -> None:
    study = prepared.study
    with open_study(study.study) as opened:
        assert "synthetic" in opened.name
        patients = {one.name: one for one in opened.manifest().patients}
    assert len(study.cases) == 2
    assert len(patients) >= 30
    for case in study.cases:
        (row,) = patients.pop(case.patient).slides
        assert (row.slide_path, row.feature_path) == (case.slide, case.features)
        with open_slide(case.slide) as slide:
            assert slide.synthetic
            assert slide.fingerprint == load_bag(case.features).slide
        truth = load_truth(case.slide.with_suffix(".truth.geojson"))
        assert set(truth.lesions) == {"A", "B"}
    assert not any(one.slides or one.label for one in patients.values())


def test_the_cases_alone_are_made_without_the_cohorts_slide(tmp_path: Path) -> None:
    study = finish(demo.prepare_cases(tmp_path))
    assert all(is_finished(case.features) for case in study.cases)
    assert not study.slide.exists()


def test_the_records_of_the_cases_decide_between_two_lesions_that_both_have(
    prepared: Prepared,
) -> None:
    study = prepared.study
    model, card = load_checkpoint(study.checkpoints[demo.LIVE])
    assert card.record is not None
    labels = []
    for patient in read_cohort(study.study, card.record.clinical).patients[:2]:
        assert patient.record is not None
        assert not card.trained_on(patient.name)
        bag = load_bag(patient.slides[0].feature_path)
        found = predict(model, card, bag, patient.record)
        assert found.warnings == ()
        assert card.classes[found.probabilities.argmax()] == patient.label
        labels.append(patient.label)
        for lesion, edit in (("A", TO_A), ("B", TO_B)):
            other = predict(model, card, bag, card.record.clinical.apply(patient.record, edit))
            assert card.classes[other.probabilities.argmax()] == lesion
    assert labels == ["A", "B"]


@pytest.fixture
def called() -> Iterator[list[str]]:
    """What sockets are used for while a test runs."""
    found: list[str] = []
    watching = True

    def note(event: str, _: object) -> None:
        if watching and event.startswith("socket."):
            found.append(event)

    sys.addaudithook(note)  # there is no way to take it off again
    yield found
    watching = False


@pytest.mark.usefixtures("mock_app_model", "qtbot")
def test_the_demo_opens_offline_on_an_edit_that_moves_the_attention(
    prepared: Prepared, called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_wsimil.gui import window

    layers: list[str] = []

    def look(shown: window.Window, _: Path) -> None:
        layers.extend(layer.name for layer in shown.viewer.layers)

    monkeypatch.setattr(window, "save_screenshot", look)
    study, case = prepared.study, prepared.study.cases[-1]
    checkpoint = study.checkpoints[demo.LIVE]
    shown = {"patient": case.patient, "checkpoint": checkpoint, "map_name": "explanatory"}
    opening = Opening(study=study.study, tried=demo.TRIED, **shown)
    window.run(opening, tmp_path / "demo.png")
    assert called == []
    assert "explanatory, moved" in layers
    with open_study(study.study) as opened:
        noted = opened.ledger.entries(case.patient)[-1]
        assert opened.records.read(case.patient).record["ldh"] != 333
    assert (noted.act, noted.field, noted.new) == (Act.WHAT_IF, "ldh", "333")
    assert noted.effect is not None
    assert noted.effect.probability["A"] > 0.7
    assert noted.effect.distance is not None
    assert noted.effect.distance > 0.8


def test_a_sweep_finds_the_fields_that_decide(prepared: Prepared) -> None:
    model, card = load_checkpoint(prepared.study.checkpoints[demo.LIVE])
    assert card.record is not None
    patients = read_cohort(prepared.study.study, card.record.clinical).patients
    cohort = [one.record for one in patients if one.record is not None]
    bag = load_bag(prepared.study.cases[0].features)
    found = finish(sweep(model, card, bag, cohort[0], cohort))
    assert {one.field for one in found[:3]} == set(DECIDING)
    assert {one.field for one in ranked(found, by_movement=True)[:3]} == set(DECIDING)


def test_a_correction_of_the_study_is_kept_by_the_next_start(
    prepared: Prepared, folder: Path
) -> None:
    case = prepared.study.cases[0].patient
    with open_study(prepared.study.study) as opened:
        version = opened.records.read(case).version
        opened.records.correct(case, {"age": 44.0}, "a test", version=version)
    before = case_files(prepared.study)
    finish(demo.prepare_demo(folder))
    assert case_files(prepared.study) == before
    with open_study(prepared.study.study) as opened:
        assert opened.records.read(case).record["age"] == 44
        opened.records.undo(case)


def case_files(study: demo.DemoStudy) -> list[int]:
    paths = [path for case in study.cases for path in (case.slide, case.features)]
    return [path.stat().st_mtime_ns for path in paths]


def test_what_is_there_is_not_made_again(prepared: Prepared, folder: Path) -> None:
    before = prepared.files()
    assert finish(demo.prepare_tour(folder)) == prepared.study
    assert prepared.files() == before


def test_the_slide_shown_is_of_a_patient_no_model_learned_from(prepared: Prepared) -> None:
    study = prepared.study
    shown = read_manifest(study.manifest, read_schema(study.schema)).part(Split.TEST)[0]
    assert (shown.name, shown.slides[0].slide_path) == (study.patient, study.slide)
    for path in study.checkpoints.values():
        _, card = load_checkpoint(path)
        assert not any(card.trained_on(f"P{number:03d}") for number in range(1, 600))


@pytest.mark.parametrize("method", METHODS)
def test_a_shipped_model_takes_the_built_in_encoder_and_sees_the_lesions(
    prepared: Prepared, method: str
) -> None:
    found = answer(prepared.study, method)
    assert found.card.model == method
    assert found.card.encoder == create_encoder("stain-texture").card.identity
    assert found.card.synthetic
    assert found.warnings == ()
    chances = dict(zip(found.card.classes, found.probabilities.tolist(), strict=True))
    assert chances["C"] < 0.1  # there are lesions of kinds A and B
    assert found.bag.grid is not None
    truth = load_truth(prepared.study.slide.with_suffix(".truth.geojson"))
    lesion = patch_truth(truth, found.bag.grid) > 0.3
    assert roc_auc_score(lesion, by_patch(found.explanations[0])) > 0.75


@pytest.mark.parametrize("method", OF_RECORDS)
def test_a_shipped_model_of_records_goes_by_the_record(prepared: Prepared, method: str) -> None:
    to_a, to_b = (answer(prepared.study, method, edit) for edit in (TO_A, TO_B))
    classes = to_a.card.classes
    assert to_a.probabilities[classes.index("A")] > 0.5
    assert to_b.probabilities[classes.index("B")] > 0.5


def test_the_readme_has_the_command_that_made_each_checkpoint() -> None:
    commands = {}
    for line in (demo.RESOURCES / "README.md").read_text().splitlines():
        words = shlex.split(line) if line.startswith("napari-wsimil train") else ["", "-o", ""]
        commands[Path(words[words.index("-o") + 1]).stem] = words
    shipped = {path.stem for path in demo.MODELS.iterdir()}
    assert shipped == set(METHODS) == commands.keys() - {""}
    for method in METHODS:
        _, card = load_checkpoint(demo.MODELS / f"{method}.safetensors")
        words = commands[method]
        given = dict(words[i + 1].split("=") for i, word in enumerate(words) if word == "--option")
        assert words[words.index("--model") + 1] == method
        assert {name: str(card.config[name]) for name in given} == given
        assert card.seed == int(words[words.index("--seed") + 1] if "--seed" in words else 0)


def test_the_checkpoints_are_small() -> None:
    assert sum(path.stat().st_size for path in demo.MODELS.iterdir()) < 5e6


def test_on_the_shipped_study_the_picture_leaves_it_to_the_record(tmp_path: Path) -> None:
    recipe = load_recipe(SHIPPED)
    manifest = write_patients(recipe, tmp_path)
    shown = read_manifest(manifest, read_schema(demo.SCHEMA)).part(Split.TEST)[0]
    finish(write_slides(recipe, tmp_path, {shown.slides[0].slide}))
    (truth,) = tmp_path.glob("slides/*.truth.geojson")
    assert set(load_truth(truth).lesions) == {"A", "B"}
    assert shown.record is not None
    assert isinstance(shown.record["ldh"], float)  # the group that decides is there
