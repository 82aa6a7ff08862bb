"""Session and panes: four states, one way into the study; no window."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from records import make_cohort, make_reader, make_slide
from studies import small_study

from napari_wsimil.clinical.schema import Record
from napari_wsimil.cohort.table import RecordError
from napari_wsimil.explain.predict import Prediction, predict
from napari_wsimil.gui.pane import Pane
from napari_wsimil.gui.record_saver import RecordSaver
from napari_wsimil.gui.session import Session
from napari_wsimil.models.loaded import LoadedModel
from napari_wsimil.study.audit_log import Act
from napari_wsimil.workflows.study import case_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_wsimil.study.case import Case
    from napari_wsimil.study.create_study import Study


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    made = small_study(tmp_path / "study")
    yield made
    made.close()


@pytest.fixture
def asked() -> tuple[Pane, Prediction]:
    """A pane with a model, and a prediction of it."""
    model, card = make_reader()
    bag = replace(make_slide(), slide="a" * 64)
    pane = Pane()
    pane.show_model(LoadedModel(model, card, "reader"))
    return pane, predict(model, card, bag, make_cohort(1)[0])


def test_late_prediction_is_not_shown_on_another_slide(asked: tuple[Pane, Prediction]) -> None:
    pane, prediction = asked
    pane.slide_state.slide = SimpleNamespace(fingerprint="b" * 64)  # type: ignore[assignment]
    pane.show_answer(prediction)
    assert pane.prediction is pane.prediction_state.final_prediction is None
    pane.slide_state.slide = SimpleNamespace(fingerprint="a" * 64)  # type: ignore[assignment]
    pane.show_answer(prediction)
    assert pane.prediction is pane.prediction_state.final_prediction is prediction


def test_each_state_has_its_own_events(asked: tuple[Pane, Prediction]) -> None:
    pane, prediction = asked
    states = (pane.slide_state, pane.prediction_state, pane.record_state, pane.view_state)
    heard: list[str] = []
    for state in states:
        state.events.connect(lambda info: heard.append(info.signal.name))
    pane.show_prediction(prediction)
    assert heard == ["prediction"]
    pane.show_map(prediction.explanations[-1].name)
    assert heard == ["prediction", "display"]


def test_fields_are_set_in_their_state_alone() -> None:
    with pytest.raises(AttributeError):
        Pane().slide = None  # type: ignore[misc]


def saver_of(study: Study) -> tuple[Session, RecordSaver, list[str]]:
    session, failures = Session(study=study), []
    saver = RecordSaver(session)
    saver.failed.connect(failures.append)
    return session, saver, failures


def edited(case: Case, ldh: float) -> Record:
    return Record({**case.record.values, "ldh": ldh})


def test_correction_is_saved_and_taken_back(study: Study) -> None:
    _, saver, _ = saver_of(study)
    cases: list[Case] = []
    saver.saved.connect(cases.append)
    case = case_of(study, study.manifest(), "P2")
    saver.correct(case, edited(case, 200.0), "lab")
    saver.undo(cases[-1])
    saver.redo(cases[-1])
    assert [one.record["ldh"] for one in cases] == [200.0, 180.0, 200.0]
    acts = [entry.act for entry in study.ledger.entries("P2")]
    assert acts[-3:] == [Act.CORRECTED, Act.UNDONE, Act.REDONE]


def test_value_changed_by_someone_else_is_not_overwritten(study: Study) -> None:
    shown = study.patient("P2")
    study.records.correct("P2", {"ldh": 190.0}, "theirs", seen={"ldh": 180.0})
    with pytest.raises(RecordError, match="changed by somebody else"):
        study.records.correct("P2", {"ldh": 170.0}, "mine", seen={"ldh": shown.record["ldh"]})
    assert study.records.read("P2").record["ldh"] == 190.0


def test_what_if_edit_is_logged_once_its_prediction_is_complete(study: Study) -> None:
    session, saver, _ = saver_of(study)
    case = case_of(study, study.manifest(), "P2")
    session.pane.show_case(case)
    session.pane.prediction_state.prediction = SimpleNamespace()  # type: ignore[assignment]
    saver.start_edit()
    saver.finish_edit(case, case.record, edited(case, 300.0), "", complete=False)
    assert logged(study) == []
    session.pane.prediction_state.prediction = None
    saver.close_pending()
    assert logged(study) == [("ldh", "180", "300")]


def logged(study: Study) -> list[tuple[str, str, str]]:
    entries = study.ledger.entries("P2")
    return [(one.field, one.old, one.new) for one in entries if one.act is Act.WHAT_IF]
