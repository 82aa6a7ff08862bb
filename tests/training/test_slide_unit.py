"""A study whose predictions are of slides: each is a case, and no patient is parted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from cohorts import CLASSES, make_bag

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, Record
from napari_wsimil.cohort.manifest import Patient, SlideRow, Split
from napari_wsimil.features.case import FollowUp
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import finish
from napari_wsimil.study.create_study import Unit, create_study, open_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import checked_run
from napari_wsimil.training.dataset import cohort_of, open_cohort
from napari_wsimil.training.evaluation import Scores, bounds
from napari_wsimil.training.metrics import intervals
from napari_wsimil.training.splits import split_of
from napari_wsimil.training.survival_metrics import c_index_interval, time_bins
from napari_wsimil.training.tasks import Task
from napari_wsimil.training.train import train_run

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.training.config import RunConfig

SCHEMA = ClinicalSchema(
    name="ward",
    fields=(Field(name="age", kind=Kind.NUMBER, group="interview"),),
    inputs=("age",),
)
COUNT = 12
MANY = {0: 3, 5: 1}  # slides of these patients; all others have two


def patient(folder: Path, k: int, split: Split | None = None) -> Patient:
    slides = []
    for n in range(MANY.get(k, 2)):
        path = folder / "features" / f"p{k}-{n}.h5"
        save_bag(path, make_bag(2 * (10 * k + n) + k % 2))
        slides.append(SlideRow(f"p{k}-{n}", feature_path=path))
    record = Record({"age": 50.0 + k})
    return Patient(f"p{k}", tuple(slides), CLASSES[k % 2], split, 5.0 + k, k % 3 == 0, record)


def ward(folder: Path, unit: Unit = Unit.SLIDE, split: tuple[Split, ...] = ()) -> Path:
    """Make a study of patients with one to three slides each."""
    with create_study(folder, SCHEMA, unit=unit) as study:
        parts = split or (None,) * COUNT
        study.add([patient(folder, k, parts[k]) for k in range(COUNT)], "test")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ward(tmp_path_factory.mktemp("ward") / "study")


def run_of(study: Path, out: Path, **values: object) -> RunConfig:
    fit = {"epochs": 2, "seed": values.pop("seed", 0)}
    known = {"cohort": study, "out": out, "model": "abmil", "folds": 3, "threads": 1, "fit": fit}
    return checked_run(known | values)


def test_each_slide_is_a_case_with_what_its_patient_has(study: Path) -> None:
    with open_study(study) as opened:
        known = {one.name: one for one in opened.manifest().patients}
    cases = {case.name: case for case in open_cohort(study).patients}
    assert set(cases) == {row.slide for one in known.values() for row in one.slides}
    for name, case in cases.items():
        whose = known[name.partition("-")[0]]
        assert (case.of, case.person) == (whose.name, whose.name)
        assert [row.slide for row in case.slides] == [name]
        for what in ("label", "split", "time", "event", "record"):
            assert getattr(case, what) == getattr(whose, what)


def test_a_study_of_patients_keeps_their_slides_together(tmp_path: Path) -> None:
    cases = open_cohort(ward(tmp_path / "s", Unit.PATIENT)).patients
    assert [(case.name, case.of) for case in cases] == [(f"p{k}", "") for k in range(COUNT)]


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.SURVIVAL])
def test_no_split_parts_the_slides_of_a_patient(study: Path, tmp_path: Path, task: Task) -> None:
    unit = {} if task is Task.CLASSIFICATION else {"time_unit": "months"}
    tested: list[str] = []
    for seed in range(3):
        for fold in range(3):
            run = run_of(study, tmp_path / "m", fold=fold, seed=seed, task=task, **unit)
            cohort = cohort_of(run)
            found = split_of(run, cohort)
            parts = (found.train, found.validation, found.test)
            whose = [{name.partition("-")[0] for name in part} for part in parts]
            assert sum(map(len, whose)) == len(set().union(*whose)) == COUNT
            names = [name for part in parts for name in part]
            assert sorted(names) == sorted(case.name for case in cohort.patients)
            tested += found.test
    assert sorted(tested) == sorted(3 * [case.name for case in cohort.patients])


def test_a_split_that_the_study_has_is_that_of_all_slides(tmp_path: Path) -> None:
    splits = (*[Split.TRAIN] * 6, *[Split.VALIDATION] * 2, *[Split.TEST] * 4)
    study = ward(tmp_path / "s", split=splits)
    found = split_of(run := run_of(study, tmp_path / "m"), cohort_of(run))
    assert found.validation == ("p6-0", "p6-1", "p7-0", "p7-1")


def test_training_counts_slides_and_the_card_knows_patients(study: Path, tmp_path: Path) -> None:
    run = run_of(study, tmp_path / "model.safetensors")
    trained = finish(train_run(run))
    fold = split_of(run, cohort_of(run))
    assert trained.results is not None
    assert trained.results.unit == "slides"
    assert {one.patient for one in trained.results.patients} == set(fold.test)
    persons = {name.partition("-")[0] for name in fold.train}
    said = f"{len(fold.train)} slides of {len(persons)} patients for training"
    assert said in trained.card.data
    taught = persons | {name.partition("-")[0] for name in fold.validation}
    assert {f"p{k}" for k in range(COUNT) if trained.card.trained_on(f"p{k}")} == taught
    assert len(trained.card.patients) == len(taught)


def test_a_patients_record_counts_once_however_many_slides(tmp_path: Path) -> None:
    splits = (*[Split.TRAIN] * 8, *[Split.VALIDATION] * 4)  # the first has three slides
    study = ward(tmp_path / "s", split=splits)
    trained = finish(train_run(run_of(study, tmp_path / "m.safetensors", model="bd")))
    assert trained.card.record is not None
    assert trained.card.record.statistics["age"]["mean"] == np.mean([50.0 + k for k in range(8)])


def test_a_new_slide_of_a_patient_who_trained_is_not_asked_about(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study, out = ward(tmp_path / "s"), tmp_path / "m.safetensors"
    given = ("--model", "abmil", "--epochs", "2", "--folds", "3")
    assert main(["train", str(study), "-o", str(out), *given]) == 0
    _, card = load_checkpoint(out)
    whose = next(f"p{k}" for k in range(COUNT) if card.trained_on(f"p{k}"))
    with open_study(study) as opened:
        path = study / "features" / "late.h5"
        save_bag(path, make_bag(99))
        opened.add([Patient(whose, (SlideRow("late", feature_path=path),))], "late")
    capfd.readouterr()
    assert main(["evaluate", str(out), str(study), "--identifying", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    asked = [f"p{k}" for k in range(COUNT) if not card.trained_on(f"p{k}")]
    slides = {f"{name}-{n}" for name in asked for n in range(MANY.get(int(name[1:]), 2))}
    assert (told["patients"], told["slides"]) == (len(asked), len(slides))
    assert set(told["probabilities"]) == slides
    with open_study(study) as opened:
        (noted,) = opened.runs.read()
        kept = opened.predictions.read()
    taught = {f"p{k}" for k in range(COUNT)} - set(asked)
    assert ({*noted.trained, *noted.selected}, noted.patients) == (taught, len(taught))
    assert {(one.patient, one.slide) for one in kept} == {
        (name.partition("-")[0], name) for name in slides
    }


def test_intervals_draw_all_slides_of_a_patient_together() -> None:
    random = np.random.default_rng(0)
    targets = np.arange(40) % 2
    scores = np.clip(0.5 + 0.2 * (targets - 0.5) + random.normal(0, 0.2, 40), 0.01, 0.99)
    chances = np.stack([1 - scores, scores], axis=1)
    names = [f"p{k:02}" for k in range(40)]
    alone = intervals(targets, chances, draws=200)
    thrice = [np.repeat(values, 3, axis=0) for values in (targets, chances)]
    together = intervals(*thrice, persons=list(np.repeat(names, 3)), draws=200)
    for name, interval in alone.items():
        found = together[name]
        assert (found.value, found.low, found.high) == pytest.approx(
            (interval.value, interval.low, interval.high)
        )
    scored = Scores(
        tuple(f"s{i}" for i in range(120)),
        torch.from_numpy(thrice[0]),
        torch.from_numpy(thrice[1]).log(),
        persons=tuple(np.repeat(names, 3)),
    )
    assert bounds(scored, draws=200)["auc"].low == pytest.approx(alone["auc"].low)
    apart = intervals(*thrice, draws=200)["auc"]
    assert apart.high - apart.low < 0.8 * (alone["auc"].high - alone["auc"].low)


def test_survival_is_of_patients_whose_slides_are_drawn_together() -> None:
    known = [FollowUp(float(1 + k), k % 3 == 0) for k in range(30)]
    risks = torch.from_numpy(np.random.default_rng(1).normal(size=30))
    names = [f"p{k:02}" for k in range(30)]
    alone = c_index_interval(known, risks, 100)["c_index"]
    twice = [one for one in known for _ in range(2)]
    both = list(np.repeat(names, 2))
    found = c_index_interval(twice, risks.repeat_interleave(2), 100, both)["c_index"]
    # slides of one patient are no pair that can be compared
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    people = [
        Patient(n, (), time=one.time, event=one.event) for n, one in zip(names, known, strict=True)
    ]
    many = [Patient(f"s{i}", (), time=9.0, event=True, of="p") for i in range(50)]
    once = Patient("p", (), time=9.0, event=True)
    assert time_bins([*people, *many]) == time_bins([*people, once])
