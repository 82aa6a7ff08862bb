"""Slides of a patient: what each says alone, what it changes, and which drove the answer."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from windows import result_of, save_untrained

from napari_wsimil.cli.main import main
from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.explain.patient import driver, slide_shares
from napari_wsimil.explain.predict import PatientPrediction, predict, predict_patient
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.store import save_bag
from napari_wsimil.slides.placeholder import made_up_grid
from napari_wsimil.study.create_study import create_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.patient import row_job

if TYPE_CHECKING:
    from pathlib import Path


def bag(seed: int, scale: float = 1.0) -> Bag:
    card = create_encoder().card
    rows = torch.randn(9, card.dim, generator=torch.Generator().manual_seed(seed))
    grid = replace(made_up_grid(9), made_up=False)
    return Bag(scale * rows, card.identity, grid, slide=f"{seed:016x}")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("m") / "m.safetensors", "abmil")


def asked(path: Path, *bags: Bag) -> PatientPrediction:
    model, card = load_checkpoint(path)
    return predict_patient(model, card, "P1", bags)


def test_a_slides_change_is_what_the_patient_loses_without_it(model_path: Path) -> None:
    model, card = load_checkpoint(model_path)
    bags = [bag(1), bag(2, 30.0), bag(3)]
    found = predict_patient(model, card, "P1", bags)
    for number, share in enumerate(slide_shares(found)):
        rest = [b for i, b in enumerate(bags) if i != number]
        without = torch.stack([predict(model, card, b).logits for b in rest]).mean(dim=0)
        expected = found.probabilities - without.softmax(dim=0)
        assert share.change is not None
        torch.testing.assert_close(share.change, expected)
        torch.testing.assert_close(share.own, predict(model, card, bags[number]).probabilities)


def test_the_driver_is_the_slide_whose_absence_costs_the_answer_most(model_path: Path) -> None:
    model, card = load_checkpoint(model_path)
    bags = [bag(1), bag(2, 30.0), bag(3)]
    found = predict_patient(model, card, "P1", bags)
    top = int(found.probabilities.argmax())
    losses = [float(s.change[top]) for s in slide_shares(found) if s.change is not None]
    assert driver(found) == losses.index(max(losses))
    swapped = predict_patient(model, card, "P1", bags[::-1])
    assert driver(swapped) == 2 - losses.index(max(losses))


def test_a_slide_that_speaks_against_the_answer_does_not_drive_it(model_path: Path) -> None:
    found = asked(model_path, bag(1), bag(2))
    pooled, without = torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 1.0], [0.4, 0.6]])
    assert driver(replace(found, probabilities=pooled, without=without)) == 1
    against = torch.tensor([[0.0, 1.0], [0.2, 0.8]])
    assert driver(replace(found, probabilities=pooled, without=against)) is None


def test_an_only_slide_and_equal_slides_drive_nothing(model_path: Path) -> None:
    alone = asked(model_path, bag(1))
    assert alone.without is None
    assert driver(alone) is None
    assert slide_shares(alone)[0].change is None
    twins = asked(model_path, bag(1), bag(1))
    assert driver(twins) is None


def test_survival_is_driven_by_the_slide_that_changes_the_curve_most(model_path: Path) -> None:
    from napari_wsimil.models.losses import Survival

    found = asked(model_path, bag(1), bag(2))
    survival = Survival.model_construct(loss="discrete", classes=found.card.classes)
    card = found.card.model_copy(update={"survival": survival})
    slides = tuple(replace(slide, card=card) for slide in found.slides)
    curve, without = torch.tensor([0.9, 0.5]), torch.tensor([[0.9, 0.6], [0.7, 0.5]])
    changed = replace(found, slides=slides, probabilities=curve, without=without)
    assert driver(changed) == 1


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["patient_id,slide_id,feature_path,label"]
    for number in (1, 2, 3):
        save_bag(folder / f"s{number}.h5", bag(number, 10.0 * number))
        rows.append(f"P{1 + number // 3},s{number},s{number}.h5,normal")
    (folder / "cohort.csv").write_text("\n".join(rows))
    return folder / "cohort.csv"


def told(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capfd.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    found: dict[str, object] = json.loads(capfd.readouterr().out)
    return found


def test_a_patient_of_a_manifest_is_pooled(
    model_path: Path, cohort: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = told(capfd, "predict", model_path, cohort, "--patient", "P1", "--json")
    assert isinstance(found["slides"], dict)
    assert list(found["slides"]) == ["s1", "s2"]
    expected = asked(model_path, bag(1, 10.0), bag(2, 20.0))
    most = driver(expected)
    assert found["driven_by"] == (None if most is None else f"s{most + 1}")
    assert isinstance(found["probabilities"], dict)
    assert list(found["probabilities"].values()) == pytest.approx(expected.probabilities.tolist())
    assert main(["predict", str(model_path), str(cohort), "--patient", "P9"]) == 2
    assert "has no patient 'P9'" in capfd.readouterr().err


def test_a_study_of_slides_pools_nothing(
    model_path: Path, cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    schema = ClinicalSchema(
        name="none", fields=(Field(name="age", kind=Kind.NUMBER, group="clinical"),)
    )
    slides = tuple(SlideRow(f"s{n}", feature_path=cohort.parent / f"s{n}.h5") for n in (1, 2))
    for unit in Unit:
        with create_study(tmp_path / unit, schema, unit=unit) as study:
            study.add([Patient("P1", slides)], "test")
        found = told(capfd, "predict", model_path, tmp_path / unit, "--patient", "P1", "--json")
        assert found["unit"] == unit
        assert ("probabilities" in found) == (unit is Unit.PATIENT)
        assert ("driven_by" in found) == (unit is Unit.PATIENT)
        assert isinstance(found["slides"], dict)
        assert set(found["slides"]) == {"s1", "s2"}


@pytest.mark.parametrize("kind", ["slide_path", "feature_path"])
def test_files_that_cannot_be_read_are_called_as_in_the_study(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "Jane Doe 1950.h5"
    path.write_text("no slide, no features")
    with pytest.raises(ValueError, match="P0001-1") as raised:
        result_of(row_job(SlideRow("P0001-1", **{kind: path})))
    assert "Jane" not in "".join(traceback.format_exception(raised.value))
