"""Answers in the window: a case's become predictions of its study, what is tried on does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from windows import Docks, save_untrained

from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.gui import prediction_saver
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import create_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.study.predictions import Verdict
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.study import case_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_wsimil.gui.docks.explain.review import ReviewRow
    from napari_wsimil.gui.plugin import RecordDock, StudyDock
    from napari_wsimil.study.create_study import Study

SCHEMA = ClinicalSchema(
    name="ward",
    fields=(
        Field(name="age", kind=Kind.NUMBER, group="who"),
        Field(name="ldh", kind=Kind.NUMBER, group="blood"),
    ),
    inputs=("age", "ldh"),
)
RECORDS = tuple(SCHEMA.parse({"age": str(60 + n), "ldh": str(200 + 90 * n)}) for n in range(4))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained persam-live that reads the ward's records."""
    known = RecordFormat.fit(SCHEMA, RECORDS)
    path = tmp_path_factory.mktemp("live") / "live.safetensors"
    return save_untrained(path, "persam-live", record=known, groups=known.groups, scale=4.0)


class Ward:
    """The window with a study of two patients; P1 has one slide, P2 two."""

    def __init__(self, docks: Docks, folder: Path, slide: Path, features: Path, unit: Unit) -> None:
        from napari_wsimil.gui.plugin import RecordDock, StudyDock

        self.docks, self.pane = docks, docks.pane
        self.record: RecordDock = RecordDock(docks.viewer)
        self.dock: StudyDock = StudyDock(docks.viewer)
        docks.viewer.window.add_dock_widget(self.record, name="Record")
        docks.viewer.window.add_dock_widget(self.dock, name="Study")
        with create_study(folder, SCHEMA, unit=unit) as study:
            rows = [SlideRow(name, slide, features) for name in ("S1", "S2", "S3")]
            study.add(
                [
                    Patient("P1", (rows[0],), record=RECORDS[0]),
                    Patient("P2", (rows[1], rows[2]), record=RECORDS[1]),
                ],
                "made",
            )
        self.dock.open(folder)
        self.idle()

    @property
    def study(self) -> Study:
        study = self.docks.session.study
        assert study is not None
        return study

    def idle(self) -> None:
        record, dock = self.record, self.dock
        self.docks.wait(lambda: not (record.busy or dock.writing or dock.job.busy))
        self.docks.idle()

    def ask(self, patient: str, model: Path, slide: str = "") -> None:
        self.dock.open_case(patient, slide)
        self.idle()
        self.docks.explain.open_model(model)
        self.idle()
        self.docks.explain.run()
        self.idle()

    def edit(self, name: str, text: str) -> None:
        row = self.record.form.rows[name]
        row.edited.emit(name, text)
        row.rested.emit()
        self.idle()

    def column(self, patient: str, name: str = "last answer") -> str | None:
        """Return what the table of the Study dock says in a column of a patient."""
        view = self.dock.cohort.model.view
        assert view is not None
        if name not in view.columns:
            return None
        row = view.row_of(patient)
        assert row is not None
        return view.cell(row, view.columns.index(name)).text


@pytest.fixture
def open_ward(
    docks: Docks, tmp_path: Path, small_slide: Path, features: Path
) -> Iterator[Callable[..., Ward]]:
    made: list[Ward] = []

    def make(unit: Unit = Unit.PATIENT) -> Ward:
        made.append(Ward(docks, tmp_path / "study", small_slide, features, unit))
        return made[0]

    yield make
    made[0].idle()
    made[0].study.close()


def test_an_answer_about_a_case_is_kept_and_told_in_the_table(
    open_ward: Callable[..., Ward], checkpoint: Path
) -> None:
    ward = open_ward()
    assert ward.column("P1") is None
    ward.ask("P1", checkpoint)
    (kept,) = ward.study.predictions.read()
    shown = ward.pane.prediction
    assert list(kept.probabilities.values()) == shown.probabilities.tolist()
    assert (kept.patient, kept.slide, kept.record) == ("P1", "", "")
    assert kept.model == load_checkpoint(checkpoint)[1].weights
    assert ward.column("P1") == kept.words
    assert ward.column("P2") == ""
    ward.pane.show_partial(replace(shown, warnings=("so far: 2 of 9 patches",)))
    ward.idle()
    assert ward.study.predictions.read() == (kept,)  # a map that still fills in is no answer


def test_what_is_tried_on_is_never_kept_and_a_correction_is_once_it_is_saved(
    open_ward: Callable[..., Ward], live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = open_ward()
    written = []
    keep = prediction_saver.keep_answer

    def counted(*given: object) -> object:
        written.append(given)
        return keep(*given)

    monkeypatch.setattr(prediction_saver, "keep_answer", counted)
    ward.ask("P1", live)
    (first,) = ward.study.predictions.read()
    assert first.record == RECORDS[0].digest()
    for text in ("300", "310", "200"):  # the last is the patient's own
        ward.edit("ldh", text)
    ward.edit("ldh", "470")
    ward.record.own_button.click()
    ward.idle()
    assert len(written) == 1  # nothing is written while somebody tries
    assert ward.study.predictions.read() == (first,)
    ward.record.mode.correct.setChecked(True)
    ward.edit("ldh", "470")
    assert len(written) == 1
    ward.record.mode.why.setText("lab report")
    ward.record.mode.save_button.click()
    ward.idle()
    _, second = ward.study.predictions.read()
    corrected = ward.study.patient("P1").record
    assert corrected["ldh"] == 470.0
    assert second.record == corrected.digest()
    assert list(second.probabilities.values()) == ward.pane.prediction.probabilities.tolist()


def test_a_run_under_a_record_that_is_tried_on_is_not_kept(
    open_ward: Callable[..., Ward], live: Path
) -> None:
    ward = open_ward()
    ward.dock.open_case("P1")
    ward.idle()
    ward.edit("ldh", "470")
    ward.docks.explain.open_model(live)
    ward.idle()
    ward.docks.explain.run()
    ward.idle()
    assert ward.pane.prediction is not None
    assert ward.study.predictions.read() == ()


def test_of_several_slides_the_answer_of_all_is_the_patients(
    open_ward: Callable[..., Ward], checkpoint: Path
) -> None:
    ward = open_ward()
    ward.ask("P2", checkpoint, "S3")
    assert ward.study.predictions.read() == ()
    ward.docks.explain.slides.ask_button.click()
    ward.idle()
    assert [(a.patient, a.slide) for a in ward.study.predictions.read()] == [("P2", "")]


def test_what_all_slides_say_under_a_record_that_is_tried_on_is_not_kept(
    open_ward: Callable[..., Ward], live: Path
) -> None:
    ward = open_ward()
    ward.ask("P2", live, "S2")
    ward.edit("ldh", "470")
    ward.docks.explain.slides.ask_button.click()
    ward.idle()
    assert ward.docks.explain.slides.table.item(0, 1).text()
    assert ward.study.predictions.read() == ()


def test_a_record_of_nobody_is_no_case_of_the_study(
    open_ward: Callable[..., Ward], live: Path, small_slide: Path, features: Path
) -> None:
    ward = open_ward()
    ward.docks.explain.open_model(live)
    ward.idle()
    ward.docks.slide.open(small_slide)
    ward.idle()
    ward.docks.slide.features.open(features)
    ward.idle()
    ward.docks.explain.run()
    ward.idle()
    assert ward.pane.case.patient == ""
    assert ward.pane.prediction_state.final_prediction is not None
    assert "does not keep" not in ward.docks.explain.warnings.text()
    assert _review(ward).isHidden()


def test_of_a_study_of_slides_each_is_kept_by_its_name(
    open_ward: Callable[..., Ward], checkpoint: Path
) -> None:
    ward = open_ward(Unit.SLIDE)
    ward.ask("P2", checkpoint, "S3")
    assert [(a.patient, a.slide) for a in ward.study.predictions.read()] == [("P2", "S3")]
    ward.docks.slide.open(ward.pane.slide.path)  # a file, and no slide of a case
    ward.idle()
    assert ward.pane.slide_state.called == ""
    ward.docks.explain.run()
    ward.idle()
    assert len(ward.study.predictions.read()) == 1


def test_an_answer_that_cannot_be_kept_is_said(
    open_ward: Callable[..., Ward], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = open_ward()

    def refuse(*_: object) -> None:
        raise ValueError("the disk is full")

    monkeypatch.setattr(prediction_saver, "keep_answer", refuse)
    ward.ask("P1", checkpoint)
    words = ward.docks.explain.warnings.text()
    assert "The study does not keep this: the disk is full" in words


def test_an_answer_of_another_record_is_marked_in_the_table(
    open_ward: Callable[..., Ward], live: Path
) -> None:
    ward = open_ward()
    ward.ask("P1", live)
    view = ward.dock.cohort.model.view
    column = view.columns.index("last answer")
    assert view.cell(view.row_of("P1"), column).why == ""
    ward.pane.show_slide(None)
    held = ward.study.records.read("P1")
    ward.study.records.correct("P1", {"ldh": 470.0}, "lab", version=held.version)
    ward.dock.cohort.show_patient(ward.study.patient("P1"))
    assert view.cell(view.row_of("P1"), column).why == "the record was corrected since"
    case = case_of(ward.study, ward.study.manifest(), "P1")
    assert case.record["ldh"] == 470.0


# reviews


def _review(ward: Ward) -> ReviewRow:
    return ward.docks.explain.review


def test_a_verdict_is_kept_with_its_words_and_told(
    open_ward: Callable[..., Ward], checkpoint: Path
) -> None:
    ward = open_ward()
    ward.ask("P1", checkpoint)
    row, (answer,) = _review(ward), ward.study.predictions.read()
    assert answer.words in row.said.text()
    assert (row.why.isHidden(), row.last.isHidden()) == (True, True)
    row.buttons[Verdict.DISAGREE].click()
    assert not row.why.isHidden()
    row.why.setText("an artifact")
    row.save_button.click()
    ward.idle()
    (review,) = ward.study.reviews.read("P1")
    assert (review.verdict, review.why) == (Verdict.DISAGREE, "an artifact")
    assert (review.model, review.said) == (answer.model, answer.words)
    assert ward.study.ledger.entries(newest=1)[0].act is Act.REVIEWED
    assert "disagree: an artifact" in row.last.text()
    assert row.why.isHidden()  # the next one is chosen anew
    assert ward.column("P1", "last review") == "disagree: an artifact"
    row.save()
    ward.idle()
    assert len(ward.study.reviews.read()) == 1


def test_what_is_tried_on_is_not_reviewed(open_ward: Callable[..., Ward], live: Path) -> None:
    ward = open_ward()
    ward.ask("P1", live)
    button = _review(ward).buttons[Verdict.AGREE]
    assert button.isEnabled()
    ward.edit("ldh", "470")
    assert not button.isEnabled()
    assert "tried on" in button.toolTip()
    ward.record.own_button.click()
    ward.idle()
    assert button.isEnabled()


def test_a_review_is_of_the_patient_that_is_shown(
    open_ward: Callable[..., Ward], checkpoint: Path
) -> None:
    ward = open_ward()
    ward.ask("P1", checkpoint)
    row = _review(ward)
    row.buttons[Verdict.AGREE].click()
    row.save_button.click()
    ward.idle()
    row.buttons[Verdict.AGREE].click()
    row.why.setText("of P1")
    ward.ask("P2", checkpoint, "S2")  # one slide of two: no answer about the patient
    assert (row.why.text(), row.last.isHidden()) == ("", True)
    assert not row.buttons[Verdict.AGREE].isEnabled()
    assert "ask of all" in row.buttons[Verdict.AGREE].toolTip()
    ward.docks.explain.slides.ask_button.click()
    ward.idle()
    row.buttons[Verdict.UNSURE].click()
    row.save_button.click()
    ward.idle()
    assert [r.patient for r in ward.study.reviews.read()] == ["P1", "P2"]
    ward.dock.open_case("P1")
    ward.idle()
    assert row.last.text().endswith(": agree")
    assert not row.buttons[Verdict.AGREE].isEnabled()  # the answer that is kept was of P2
