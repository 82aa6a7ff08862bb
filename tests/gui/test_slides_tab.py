"""The Slides tab: all slides of a patient asked at once, another one opened by a click."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.features.store import load_bag
from napari_wsimil.slides.placeholder import is_blank
from napari_wsimil.study.case import Case
from napari_wsimil.study.create_study import create_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.study.open_study import Study

SCHEMA = ClinicalSchema(
    name="none", fields=(Field(name="age", kind=Kind.NUMBER, group="clinical"),)
)


@pytest.fixture
def study_of(
    tmp_path: Path, small_slide: Path, features: Path
) -> Iterator[Callable[[Unit], Study]]:
    made: list[Study] = []

    def make(unit: Unit) -> Study:
        study = create_study(tmp_path / "study", SCHEMA, unit=unit)
        made.append(study)
        rows = SlideRow("P1-a", small_slide, features), SlideRow("P1-b", feature_path=features)
        study.add([Patient("P1", rows), Patient("P2", (SlideRow("P2-a", small_slide),))], "test")
        return study

    yield make
    for study in made:
        study.close()


def case_of(study: Study, name: str) -> Case:
    held = study.records.read(name)
    return Case(name, study.schema, held.record, held.version)


def test_several_slides_of_a_patient_are_asked_and_told(
    docks: Docks, study_of: Callable[[Unit], Study], checkpoint: Path, features: Path
) -> None:
    study = study_of(Unit.PATIENT)
    docks.session.study = study
    row = study.patient("P1").slides[0]
    docks.slide.open_row(row, case_of(study, "P1"))
    docks.idle()
    assert docks.slide.job.error is None
    assert docks.pane.bag is not None
    docks.explain.open_model(checkpoint)
    docks.idle()
    docks.explain.run()
    docks.idle()
    tab = docks.explain.slides
    number = docks.explain.tabs.indexOf(tab)
    assert docks.explain.tabs.isTabVisible(number)
    tab.ask_button.click()
    docks.idle()
    model, card = load_checkpoint(checkpoint)
    expected = predict_patient(model, card, "P1", [load_bag(features)] * 2)
    top = int(expected.probabilities.argmax())
    assert f"{card.classes[top]} {expected.probabilities[top]:.1%}" in tab.words.text()
    assert "No one slide drives this" in tab.words.text()  # both have the same features
    assert [tab.table.item(i, 0).text() for i in range(2)] == ["P1-a", "P1-b"]
    assert tab.table.item(1, 2).text() == "+0.0 points"
    tab.table.cellClicked.emit(1, 0)
    docks.idle()
    assert docks.pane.slide is not None
    assert is_blank(docks.pane.slide)
    assert docks.pane.case is not None
    assert docks.pane.case.patient == "P1"
    assert "ask what each says" in tab.words.text()


def test_a_patient_with_one_slide_has_no_such_tab(
    docks: Docks, study_of: Callable[[Unit], Study], checkpoint: Path
) -> None:
    study = study_of(Unit.PATIENT)
    docks.session.study = study
    docks.slide.features.open(study.patient("P1").slides[1].feature_path)
    docks.idle()
    docks.explain.open_model(checkpoint)
    docks.idle()
    docks.explain.run()
    docks.idle()
    tab = docks.explain.tabs.indexOf(docks.explain.slides)
    assert not docks.explain.tabs.isTabVisible(tab)  # nobody's slide
    docks.pane.show_case(case_of(study, "P1"))
    assert docks.explain.tabs.isTabVisible(tab)
    docks.pane.show_case(case_of(study, "P2"))
    assert not docks.explain.tabs.isTabVisible(tab)


def test_a_study_of_slides_says_that_nothing_is_pooled(
    docks: Docks, study_of: Callable[[Unit], Study], checkpoint: Path
) -> None:
    study = study_of(Unit.SLIDE)
    docks.session.study = study
    docks.slide.open_row(study.patient("P1").slides[1], case_of(study, "P1"))
    docks.idle()
    docks.explain.open_model(checkpoint)
    docks.idle()
    docks.explain.slides.ask()
    docks.idle()
    assert "nothing is pooled" in docks.explain.slides.words.text()
    assert docks.explain.slides.table.item(0, 2).text() == ""


def test_a_slide_with_neither_image_nor_features_says_so(docks: Docks) -> None:
    docks.slide.open_row(SlideRow("P1-a"))
    docks.idle()
    assert "neither an image nor features" in str(docks.slide.job.error)
