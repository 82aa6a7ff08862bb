"""Record dock: a record is edited, attention follows, the patient changes only on purpose."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QDialog
from windows import Docks, save_untrained

from napari_wsimil.clinical.field import Absent, Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.explain.predict import predict
from napari_wsimil.gui.docks.record.live_updater import BEHIND
from napari_wsimil.gui.docks.record.mode import DISCARDED, UnsavedDialog
from napari_wsimil.gui.docks.study.cohort_view import CohortView, Said
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.case import Case
from napari_wsimil.study.create_study import create_study, open_study
from napari_wsimil.workflows.study import case_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.plugin import RecordDock, StudyDock
    from napari_wsimil.study.create_study import Study

SCHEMA = ClinicalSchema(
    name="ward",
    fields=(
        Field(name="age", kind=Kind.NUMBER, group="who", hard=(0, 130), plausible=(18, 95)),
        Field(name="smoker", kind=Kind.BOOLEAN, group="who"),
        Field(name="ldh", kind=Kind.NUMBER, group="blood", unit="U/L", plausible=(90, 3000)),
        Field(name="white", kind=Kind.NUMBER, group="blood"),
        Field(name="lymph", kind=Kind.NUMBER, group="blood"),
        Field(name="note", kind=Kind.CATEGORY, group="other", values=("a", "b")),
    ),
    inputs=("age", "smoker", "ldh", "white", "lymph"),
    rules=("lymph <= white",),
)
CELLS = (
    {"age": "61", "smoker": "no", "ldh": "210", "white": "7", "lymph": "2"},
    {"age": "40", "smoker": "yes", "ldh": "640", "white": "9", "lymph": "1"},
    {"age": "72", "smoker": "yes", "ldh": "333", "white": "5", "lymph": "3"},
)
RECORDS = tuple(SCHEMA.parse(cells) for cells in CELLS)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained persam-live that reads the ward's records."""
    known = RecordFormat.fit(SCHEMA, RECORDS)
    path = tmp_path_factory.mktemp("live") / "live.safetensors"
    return save_untrained(path, "persam-live", record=known, groups=known.groups, scale=4.0)


@pytest.fixture
def study(tmp_path: Path, small_slide: Path) -> Iterator[Study]:
    """Three patients, the first with the real slide."""
    made = create_study(tmp_path / "study", SCHEMA)
    slides = ((SlideRow("S1", small_slide),), (), ())
    pairs = zip(slides, RECORDS, strict=True)
    made.add(
        [Patient(f"P{n}", rows, record=record) for n, (rows, record) in enumerate(pairs, 1)], "made"
    )
    yield made
    made.close()


class Ward:
    """The window with the first patient of the study open, and a model asked."""

    def __init__(self, docks: Docks, study: Study) -> None:
        from napari_wsimil.gui.plugin import RecordDock

        self.docks, self.study, self.pane = docks, study, docks.pane
        self.dock: RecordDock = RecordDock(docks.viewer)
        docks.viewer.window.add_dock_widget(self.dock, name="Record")
        docks.session.study = study

    def open(self, slide: Path, features: Path, model: Path, patient: str = "P1") -> None:
        self.docks.slide.open(slide)
        self.docks.idle()
        self.docks.slide.features.open(features)
        self.docks.idle()
        self.pane.show_case(case_of(self.study, self.study.manifest(), patient))
        self.docks.explain.open_model(model)
        self.docks.idle()
        self.docks.explain.run()
        self.docks.idle()

    def land(self) -> None:
        """Wait until all on screen is of the record, and all that was done is written."""
        self.docks.wait(lambda: not (self.dock.follower.busy or self.dock.saver.busy))

    def edit(self, name: str, text: str) -> None:
        """Type a text into a field, and leave it."""
        row = self.dock.form.rows[name]
        row.edited.emit(name, text)
        row.rested.emit()

    def drag(self, name: str, positions: range) -> None:
        """Drag a slider over positions and let it go."""
        slider = self.dock.form.rows[name].number.slider
        slider.setSliderDown(True)
        for position in positions:
            slider.setValue(position)
        slider.setSliderDown(False)

    def said(self, record: Record) -> Prediction:
        """Return what the model itself says of a record."""
        model, seen = self.pane.model, self.pane.prediction
        assert model is not None
        assert seen is not None
        return predict(model.model, model.card, seen.bag, record)

    def entries(self, act: Act) -> list[tuple[str, str, str]]:
        return [(e.field, e.old, e.new) for e in self.study.ledger.entries("P1") if e.act is act]


@pytest.fixture
def ward(docks: Docks, study: Study, small_slide: Path, features: Path, live: Path) -> Ward:
    made = Ward(docks, study)
    made.open(small_slide, features, live)
    return made


def check_same(found: Prediction, wanted: Prediction) -> None:
    torch.testing.assert_close(found.probabilities, wanted.probabilities, atol=1e-5, rtol=0)
    for one, other in zip(found.explanations, wanted.explanations, strict=True):
        assert one.name == other.name
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)


def test_attention_follows_an_edit_exactly(ward: Ward) -> None:
    before = ward.pane.prediction
    ward.edit("ldh", "900")
    ward.land()
    assert ward.pane.record["ldh"] == 900
    check_same(ward.pane.prediction, ward.said(SCHEMA.apply(RECORDS[0], {"ldh": "900"})))
    assert not torch.equal(ward.pane.prediction.probabilities, before.probabilities)
    assert ward.pane.prediction_state.baseline is before
    assert "ms" in ward.dock.bars.latency.text()


def test_the_thumbnail_follows_once_edits_rest(ward: Ward) -> None:
    layer = ward.docks.viewer.layers[ward.pane.shown.explanations[0].name]
    before, data = layer.thumbnail.copy(), layer.data.copy()
    ward.edit("ldh", "2900")
    ward.land()
    assert not np.array_equal(layer.data, data)
    np.testing.assert_array_equal(layer.thumbnail, before)
    ward.docks.wait(lambda: not np.array_equal(layer.thumbnail, before))


def test_of_a_drag_the_last_value_is_never_skipped(ward: Ward) -> None:
    ward.drag("ldh", range(10, 300, 7))
    ward.land()
    last = ward.pane.record
    assert last["ldh"] == ward.dock.form.rows["ldh"].number._span.value(297 / 400)
    check_same(ward.pane.prediction, ward.said(last))
    assert ward.pane.prediction.record == last


def test_an_edit_while_another_is_answered_is_answered_next(ward: Ward) -> None:
    ages = iter(("30", "40", "50"))

    def edit_more(*_: object) -> None:
        for age in ages:
            ward.edit("age", age)

    ward.dock.follower.preparing.connect(edit_more)
    ward.edit("ldh", "900")
    ward.land()
    assert ward.pane.prediction.record == SCHEMA.apply(RECORDS[0], {"ldh": "900", "age": "50"})
    check_same(ward.pane.prediction, ward.said(ward.pane.record))


def test_another_patient_is_not_compared_with_the_one_before(ward: Ward) -> None:
    ward.edit("ldh", "900")
    ward.land()
    ward.pane.show_case(case_of(ward.study, ward.study.manifest(), "P2"))
    ward.land()
    assert ward.pane.prediction_state.baseline is None
    check_same(ward.pane.prediction, ward.said(RECORDS[1]))
    own = ward.pane.prediction
    ward.edit("ldh", "300")
    ward.land()
    assert ward.pane.prediction_state.baseline is own


def test_what_is_older_than_the_record_is_marked_until_all_has_landed(ward: Ward) -> None:
    told: list[str] = []
    ward.dock.follower.started.connect(lambda: told.append(ward.dock.bars.latency.text()))
    ward.edit("age", "30")
    assert "outdated" in told[0]
    ward.dock.follower._mark()  # the edit takes long
    assert ward.pane.prediction_state.stale == BEHIND
    ward.land()
    assert ward.pane.prediction_state.stale == ""
    assert "older" not in ward.dock.bars.latency.text()


def test_patches_in_view_come_first_and_leave_the_others_as_they_were(ward: Ward) -> None:
    ward.pane.show_map("explanatory")
    before = ward.pane.prediction
    view = ward.docks.viewer
    view.scene.camera.zoom = 8 * view.scene.camera.zoom
    ward.docks.wait(lambda: ward.pane.view_state.view.width < 1500)
    parts: list[Prediction] = []
    ward.pane.prediction_state.events.prediction.connect(lambda shown, _: parts.append(shown))
    ward.edit("ldh", "2500")
    ward.land()
    first, whole = parts
    old, part, new = (one.explanations[1].scores for one in (before, first, whole))
    changed = part != old
    assert 0 < changed.sum() < len(changed)
    torch.testing.assert_close(part[changed], new[changed], atol=1e-6, rtol=0)
    assert torch.equal(first.probabilities, before.probabilities)


def test_what_is_tried_on_never_changes_the_patient(ward: Ward) -> None:
    ward.drag("ldh", range(10, 200, 9))
    ward.land()
    assert ward.study.records.read("P1").record == RECORDS[0]
    (entry,) = ward.entries(Act.WHAT_IF)
    assert entry == ("ldh", "210", SCHEMA.by_name["ldh"].format(ward.pane.record["ldh"]))
    noted = ward.study.ledger.entries("P1")[-1]
    assert noted.model == ward.pane.model.card.weights
    assert noted.record == ward.pane.record.digest()
    assert len(noted.features) == 64
    assert 0 < noted.effect.distance < 1
    assert sum(noted.effect.probability.values()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("text", ["abc", "-3", "1e999"])
def test_an_invalid_value_says_why_beside_its_field_and_goes_nowhere(ward: Ward, text: str) -> None:
    before = ward.pane.prediction
    ward.edit("age", text)
    row = ward.dock.form.rows["age"]
    assert not row.words.isHidden()
    assert repr(text) in row.words.text()
    assert ward.pane.record == RECORDS[0]
    assert ward.pane.prediction is before
    assert ward.entries(Act.WHAT_IF) == []
    ward.edit("ldh", "300")
    assert repr(text) in row.words.text()  # an edit elsewhere does not hide what is wrong
    ward.edit("age", "50")
    assert row.words.isHidden()


def test_what_is_typed_is_tried_on_once_it_is_whole(ward: Ward) -> None:
    text = ward.dock.form.rows["ldh"].number.text
    text.selectAll()
    ward.docks.qtbot.keyClicks(text, "900")
    assert ward.pane.record == RECORDS[0]
    ward.docks.qtbot.keyClick(text, Qt.Key.Key_Return)
    ward.land()
    assert ward.pane.record["ldh"] == 900
    assert ward.entries(Act.WHAT_IF) == [("ldh", "210", "900")]
    ward.docks.qtbot.keyClicks(text, "x")
    ward.docks.qtbot.keyClick(text, Qt.Key.Key_Return)
    assert "'900x' is not" in ward.dock.form.rows["ldh"].words.text()
    assert text.text() == "900x"
    assert ward.pane.record["ldh"] == 900


def test_a_search_leaves_the_groups_alone_that_have_the_field(ward: Ward) -> None:
    form = ward.dock.form
    form.search.setText("ldh")
    assert {name for name, group in form.groups.items() if not group.isHidden()} == {"blood"}
    form.search.clear()
    assert {name for name, group in form.groups.items() if not group.isHidden()} == {"who", "blood"}


def test_the_map_before_lies_beside_its_change(ward: Ward) -> None:
    ward.pane.show_map("explanatory")
    ward.dock.try_on({"ldh": "2900"})
    ward.land()
    ward.dock.change.change_button.click()
    ward.dock.change.beside_button.click()
    beside = ward.docks.session.beside
    assert beside.prediction is ward.pane.prediction_state.baseline
    assert beside.prediction.explanations[beside.display.map_index].name == "explanatory"


def test_odd_unseen_and_impossible_values_are_marked_but_taken(ward: Ward) -> None:
    ward.edit("age", "110")
    ward.edit("lymph", "30")
    ward.land()
    rows = ward.dock.form.rows
    assert "110 is outside the plausible 18 to 95" in rows["age"].words.text()
    assert "outside the 40 to 72" in rows["age"].words.text()
    assert "lymph 30 must be <= white 7" in rows["lymph"].words.text()
    check_same(ward.pane.prediction, ward.said(ward.pane.record))


def test_missing_unknown_and_not_applicable_are_three_things(ward: Ward) -> None:
    answers = []
    for absent in Absent:
        ward.edit("ldh", absent.value)
        ward.land()
        assert ward.pane.record["ldh"] is absent
        assert ward.dock.form.rows["ldh"].number.text.placeholderText() == absent.value
        answers.append(ward.pane.prediction.logits)
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[1], answers[2])


def test_a_group_can_be_taken_away_and_given_back(ward: Ward) -> None:
    form = ward.dock.form
    form._take_away("blood")
    ward.land()
    assert not ward.pane.prediction.bag.clinical.present[1]
    assert "3 missing" in form.groups["blood"].button.text()
    form._give_back("blood")
    ward.land()
    assert ward.pane.record == RECORDS[0]
    assert len(ward.entries(Act.WHAT_IF)) == 6


def test_the_whole_record_can_be_missing(ward: Ward) -> None:
    ward.dock.scenarios.none_action.trigger()
    ward.land()
    assert set(ward.pane.record.values.values()) == {Absent.MISSING}
    assert not ward.pane.prediction.bag.clinical.present.any()
    check_same(ward.pane.prediction, ward.said(ward.pane.record))


def test_undo_and_redo_go_along_what_was_tried_on(ward: Ward) -> None:
    ward.edit("ldh", "400")
    ward.land()
    ward.edit("age", "20")
    ward.land()
    ward.dock.undo_button.click()
    ward.land()
    assert (ward.pane.record["age"], ward.pane.record["ldh"]) == (61, 400)
    ward.dock.undo_button.click()
    ward.dock.redo_button.click()
    ward.land()
    assert ward.pane.record["ldh"] == 400
    check_same(ward.pane.prediction, ward.said(ward.pane.record))
    whys = [entry.why for entry in ward.study.ledger.entries("P1")]
    assert "undo" in whys
    assert ward.study.ledger.check() == ""


def test_a_correction_needs_a_reason_and_changes_the_patient(ward: Ward) -> None:
    dock = ward.dock
    ward.edit("age", "20")
    ward.land()
    dock.mode.correct.setChecked(True)
    assert ward.pane.record == RECORDS[0]  # what was tried on is no correction
    ward.edit("ldh", "555")
    assert not dock.mode.save_button.isEnabled()
    dock.mode.why.setText("misread")
    dock.mode.save_button.click()
    ward.land()
    held = ward.study.records.read("P1")
    assert (held.record["ldh"], held.record["age"]) == (555, 61)
    assert ward.pane.case.record == held.record
    assert ward.pane.case.version == held.version
    assert not dock.mode.correcting
    assert ward.entries(Act.CORRECTED) == [("ldh", "210", "555")]
    assert ward.study.ledger.entries("P1")[-1].why == "misread"


def test_a_correction_of_a_record_that_changed_meanwhile_is_refused_by_name(ward: Ward) -> None:
    with open_study(ward.study.folder, who="someone") as other:
        version = other.records.read("P1").version
        other.records.correct("P1", {"ldh": 111.0}, "new report", version=version)
    ward.dock.mode.correct.setChecked(True)
    ward.edit("ldh", "555")
    ward.dock.mode.why.setText("misread")
    ward.dock.mode.save_button.click()
    ward.land()
    assert "someone" in ward.dock.problem.text()
    assert ward.study.records.read("P1").record["ldh"] == 111


def test_a_correction_can_be_taken_back_and_made_again(ward: Ward) -> None:
    dock = ward.dock
    dock.mode.correct.setChecked(True)
    ward.edit("ldh", "555")
    dock.mode.why.setText("misread")
    dock.mode.save_button.click()
    ward.land()
    for button, wanted in ((dock.undo_button, 210), (dock.redo_button, 555)):
        dock.mode.correct.setChecked(True)
        button.click()
        ward.land()
        assert ward.study.records.read("P1").record["ldh"] == wanted
        assert ward.pane.case.record["ldh"] == wanted
    assert [e.act for e in ward.study.ledger.entries("P1")][-2:] == [Act.UNDONE, Act.REDONE]


def test_the_change_is_a_map_of_its_own_on_a_fixed_scale(ward: Ward) -> None:
    ward.pane.show_map("explanatory")
    ward.edit("ldh", "2900")
    ward.land()
    ward.dock.change.change_button.click()
    layer = ward.docks.presenter._layers.get("map")
    assert layer.name == "explanatory, moved"
    overlay = " ".join(ward.docks.viewer.canvas.overlays.text.text.split())
    assert "Attention change (after − before), × average: explanatory" in overlay
    assert layer.contrast_limits == [-10, 10]
    np.testing.assert_allclose(layer.colormap.colors[-1], colormaps["PuOr_r"](1.0), atol=1e-6)
    ward.edit("ldh", "95")
    ward.land()
    assert layer.name == "explanatory, moved"
    assert layer.contrast_limits == [-10, 10]
    before, after = (
        ward.pane.prediction_state.baseline.explanations[1],
        ward.pane.prediction.explanations[1],
    )
    p, q = (one.scores / one.scores.sum() for one in (before, after))
    shown = ward.pane.shown.explanations[ward.pane.display.map_index].scores
    torch.testing.assert_close(shown, (q - p) * len(p), atol=1e-4, rtol=0)
    assert "of the attention moved" in ward.dock.change.words.text()
    ward.dock.change.change_button.click()
    assert layer.name == "explanatory"
    np.testing.assert_allclose(layer.colormap.colors[-1], colormaps["viridis"](1.0), atol=1e-6)


def test_the_baseline_is_what_is_pinned(ward: Ward) -> None:
    ward.edit("ldh", "900")
    ward.land()
    ward.dock.change.pin_button.click()
    pinned = ward.pane.prediction
    ward.edit("ldh", "2000")
    ward.land()
    assert ward.pane.prediction_state.baseline is pinned
    was, now = (one.probabilities[0].item() for one in (pinned, ward.pane.prediction))
    assert ward.dock.bars.bars[0].text() == f"{was:.1%} → {now:.1%}"


def test_movement_is_told_beside_its_noise(ward: Ward) -> None:
    ward.edit("ldh", "211")
    ward.land()
    ward.dock.change.noise_button.click()
    ward.docks.wait(lambda: not ward.dock.noise_job.busy)
    assert "patches drawn" in ward.dock.change.noise.text()
    assert "within variability" in ward.dock.change.noise.text()


def test_a_sweep_ranks_fields_and_its_values_can_be_tried_on(ward: Ward) -> None:
    sweep = ward.dock.sweep
    sweep.run()
    ward.docks.wait(lambda: not sweep.job.busy)
    names = [effect.field for effect in sweep.found]
    assert sorted(names) == sorted(SCHEMA.inputs)
    changes = [effect.change for effect in sweep.found]
    assert changes == sorted(changes, reverse=True)
    effect = sweep.found[0]
    sweep.plot.taken(effect, effect.values[0])
    ward.land()
    assert ward.pane.record == effect.values[0].record
    torch.testing.assert_close(
        ward.pane.prediction.probabilities, effect.values[0].probabilities, atol=1e-5, rtol=0
    )
    sweep.show_values()
    ward.docks.wait(lambda: not sweep.job.busy)
    assert len(ward.pane.view_state.side) == len(effect.values)


def test_a_scenario_is_saved_and_tried_on_another_patient(ward: Ward, tmp_path: Path) -> None:
    ward.edit("ldh", "900")
    ward.edit("smoker", "unknown")
    ward.dock.scenarios.save(tmp_path / "worse.yaml")
    ward.pane.show_case(case_of(ward.study, ward.study.manifest(), "P2"))
    ward.dock.scenarios.open(tmp_path / "worse.yaml")
    ward.land()
    assert ward.pane.record["ldh"] == 900
    assert ward.pane.record["smoker"] is Absent.UNKNOWN
    assert ward.pane.record["age"] == 40
    (tmp_path / "worse.yaml").write_text("name: x")
    ward.dock.scenarios.open(tmp_path / "worse.yaml")
    problem = ward.dock.problem.text()
    assert "is not a scenario" in problem
    assert "worse" not in problem  # file names are hidden


def test_a_record_of_another_schema_is_named_by_its_fields(ward: Ward) -> None:
    other = ClinicalSchema(name="other", fields=SCHEMA.fields[:2])
    ward.docks.session.study = None
    ward.pane.show_case(Case("Q1", other, other.parse({"age": "50"})))
    assert "ldh" in ward.dock.problem.text()
    before = ward.pane.prediction
    ward.edit("age", "60")
    ward.land()
    assert ward.pane.prediction is before


def test_a_map_that_leaves_is_noted_with_its_hash(ward: Ward, tmp_path: Path) -> None:
    ward.docks.explain.map.export(tmp_path / "map.csv")
    ward.docks.idle()
    ward.docks.wait(lambda: len(ward.entries(Act.EXPORTED)) == 1)
    entry = ward.study.ledger.entries("P1")[-1]
    assert entry.file == hashlib.sha256((tmp_path / "map.csv").read_bytes()).hexdigest()
    assert entry.destination == str(tmp_path / "map.csv")
    assert entry.identifying is False


def test_a_model_that_reads_no_records_says_so(ward: Ward, checkpoint: Path) -> None:
    ward.docks.explain.open_model(checkpoint)
    ward.docks.idle()
    ward.docks.explain.run()
    ward.docks.idle()
    assert "acmil reads no clinical record" in ward.dock.problem.text()
    before = ward.pane.prediction
    ward.edit("ldh", "900")
    ward.land()
    assert ward.pane.prediction is before


def test_many_fields_stay_usable(docks: Docks) -> None:
    from napari_wsimil.gui.plugin import RecordDock

    fields = tuple(
        Field(name=f"gene {n}", kind=Kind.NUMBER, group=f"panel {n % 4}") for n in range(400)
    )
    schema = ClinicalSchema(name="wide", fields=fields)
    dock = RecordDock(docks.viewer)
    docks.pane.show_case(Case("", schema, schema.parse({})))
    assert len(dock.form.rows) == 0
    dock.form.search.setText("gene 37")
    shown = [name for name, row in dock.form.rows.items() if not row.isHidden()]
    assert set(shown) == {"gene 37", *(f"gene {n}" for n in range(370, 380))}


def test_an_edit_whose_patient_has_left_is_noted_as_theirs_alone(ward: Ward) -> None:
    ward.edit("ldh", "900")
    ward.pane.show_slide(None)
    ward.pane.show_case(case_of(ward.study, ward.study.manifest(), "P2"))
    ward.edit("age", "33")
    ward.land()
    assert ward.entries(Act.WHAT_IF) == [("ldh", "210", "900")]
    (entry,) = [e for e in ward.study.ledger.entries("P2") if e.act is Act.WHAT_IF]
    assert (entry.field, entry.old, entry.new) == ("age", "40", "33")
    assert ward.dock.problem.isHidden()


def test_an_edit_whose_model_has_left_is_noted_without_its_effect(ward: Ward) -> None:
    ward.edit("ldh", "900")
    ward.pane.show_model(None)
    ward.land()
    (entry,) = [e for e in ward.study.ledger.entries("P1") if e.act is Act.WHAT_IF]
    assert (entry.field, entry.model, entry.effect) == ("ldh", "", None)


def test_a_rule_is_told_beside_both_its_fields_while_it_is_broken(ward: Ward) -> None:
    words = {name: ward.dock.form.rows[name].words for name in ("white", "lymph")}
    ward.edit("lymph", "8")
    assert "must be <=" in words["white"].text()
    ward.edit("white", "9")
    assert "must be <=" not in words["lymph"].text()


def test_a_reason_is_not_kept_for_another_patient(ward: Ward) -> None:
    ward.dock.mode.correct.setChecked(True)
    ward.dock.mode.why.setText("misread")
    ward.pane.show_case(case_of(ward.study, ward.study.manifest(), "P2"))
    assert ward.dock.mode.why.text() == ""


def test_fields_to_try_are_folded_at_first(ward: Ward) -> None:
    dock = ward.dock
    assert not dock.fields.isHidden()
    assert dock.sweep.isHidden()
    dock.fields.open()
    assert not dock.sweep.isHidden()
    ward.pane.show_slide(None)
    assert dock.fields.isHidden()


def test_discarding_takes_away_a_text_that_is_no_value(ward: Ward) -> None:
    ward.dock.mode.correct.setChecked(True)
    ward.edit("age", "abc")
    assert ward.dock.form.wrong
    ward.dock.mode.discard_button.click()
    assert not ward.dock.form.wrong
    assert ward.dock.form.rows["age"].words.isHidden()


@pytest.mark.parametrize("kind", ["slide_path", "feature_path"])
def test_of_a_patient_whose_file_cannot_be_read_only_the_record_is_shown(
    ward: Ward, tmp_path: Path, small_slide: Path, kind: str
) -> None:
    path = tmp_path / "Jane Doe.h5"
    path.write_text("no slide, no features")
    row = replace(SlideRow("S2", small_slide), **{kind: path})
    ward.study.add([Patient("P2", (row,))], "a file that is broken")
    ward.edit("ldh", "900")
    ward.land()
    ward.dock.change.beside_button.click()
    before, docks = ward.pane.slide, ward.docks
    dock = add_study_dock(ward)
    dock.open_case("P2")
    docks.wait(lambda: not dock.writing)
    docks.idle()
    assert ward.pane.case.patient == "P2"
    assert ward.pane.record == RECORDS[1]
    nothing = (
        ward.pane.slide,
        ward.pane.bag,
        ward.pane.prediction,
        ward.pane.prediction_state.baseline,
    )
    assert nothing == (None,) * 4
    assert (docks.session.beside.slide, docks.session.beside.prediction) == (None, None)
    assert not docks.beside.model.layers
    assert not list(docks.presenter._layers)
    assert before.reader.closed
    assert ward.dock.form.rows["age"].number.text.text() == "40"
    told = docks.slide.facts.text()
    file = "image" if kind == "slide_path" else "features file"
    assert f"The {file} of S2 cannot be shown: " in told
    assert "open the case again" in told
    assert "Jane" not in told
    assert told.startswith("<b>")  # or quotes would be shown escaped
    docks.slide.open(small_slide)
    docks.idle()
    assert "cannot be shown" not in docks.slide.facts.text()


# what is typed and not saved


def correct(ward: Ward, name: str = "ldh", text: str = "555") -> None:
    """Type a correction and do not save it."""
    ward.dock.mode.correct.setChecked(True)
    ward.edit(name, text)


def answer(monkeypatch: pytest.MonkeyPatch, act: Callable[[UnsavedDialog], int]) -> list[str]:
    """Let who is asked what becomes of a correction answer so; return what they were told."""
    told: list[str] = []

    def exec_(dialog: UnsavedDialog) -> int:
        told.append(dialog.words.text())
        return act(dialog)

    monkeypatch.setattr(UnsavedDialog, "exec_", exec_)
    return told


def stay(_: UnsavedDialog) -> int:
    return QDialog.DialogCode.Rejected


def add_study_dock(ward: Ward) -> StudyDock:
    from napari_wsimil.gui.plugin import StudyDock

    dock: StudyDock = StudyDock(ward.docks.viewer)
    ward.docks.viewer.window.add_dock_widget(dock, name="Study")
    dock.cases.manifest = ward.study.manifest()
    return dock


def open_case(ward: Ward, dock: StudyDock) -> None:
    dock.open_case("P2")
    ward.docks.wait(lambda: not dock.writing)


def check_typed(ward: Ward) -> None:
    """Check that the first patient is still there, and what was typed."""
    assert ward.pane.case.patient == "P1"
    assert ward.pane.record["ldh"] == 555
    assert ward.dock.mode.correcting
    assert ward.study.records.read("P1").record == RECORDS[0]


def test_who_stays_with_a_correction_keeps_patient_and_text(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = add_study_dock(ward)
    correct(ward)
    told = answer(monkeypatch, stay)
    dock.open_case("P2")
    assert told == [
        "The record of <b>P1</b> was corrected, and not saved yet:<br>ldh: 210 becomes 555"
    ]
    check_typed(ward)


def test_who_discards_a_correction_goes_on_to_the_other_patient(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = add_study_dock(ward)
    correct(ward)
    answer(monkeypatch, lambda _: DISCARDED)
    open_case(ward, dock)
    assert ward.pane.case.patient == "P2"
    assert ward.pane.record == RECORDS[1]
    assert ward.study.records.read("P1").record == RECORDS[0]
    assert not ward.pane.record_state.holds


def test_who_saves_a_correction_says_why_and_goes_on(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(dialog: UnsavedDialog) -> int:
        assert not dialog.save_button.isEnabled()
        dialog.why.setText("misread")
        dialog.save_button.click()
        assert not dialog.discard_button.isEnabled()
        ward.docks.wait(lambda: dialog.result() != 0)
        return dialog.result()

    dock = add_study_dock(ward)
    correct(ward)
    answer(monkeypatch, save)
    open_case(ward, dock)
    ward.land()
    assert ward.pane.case.patient == "P2"
    assert ward.study.records.read("P1").record["ldh"] == 555
    assert ward.study.ledger.entries("P1")[-1].why == "misread"


def test_a_correction_that_cannot_be_saved_is_told_and_stays(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(dialog: UnsavedDialog) -> int:
        dialog.why.setText("misread")
        dialog.save_button.click()
        ward.docks.wait(lambda: bool(dialog.problem.text()))
        assert "someone" in dialog.problem.text()
        assert dialog.save_button.isEnabled()
        return QDialog.DialogCode.Rejected

    dock = add_study_dock(ward)
    correct(ward)
    with open_study(ward.study.folder, who="someone") as other:
        version = other.records.read("P1").version
        other.records.correct("P1", {"age": 62.0}, "new report", version=version)
    answer(monkeypatch, save)
    dock.open_case("P2")
    assert ward.pane.case.patient == "P1"
    assert ward.pane.record["ldh"] == 555


def open_slide_again(ward: Ward) -> None:
    ward.docks.slide.open(ward.pane.slide.path)


def delete_slide(ward: Ward) -> None:
    ward.docks.viewer.layers.remove(ward.docks.presenter._layers.get("slide"))


def drop_slide(ward: Ward) -> None:
    ward.docks.viewer.open(ward.pane.slide.path, plugin="napari-wsimil")


def open_other_study(ward: Ward) -> None:
    create_study(ward.study.folder.with_name("other"), SCHEMA).close()
    add_study_dock(ward).open(ward.study.folder.with_name("other"))


def correct_in_table(ward: Ward) -> None:
    dock = add_study_dock(ward)
    dock.cohort.show_cohort(CohortView(ward.study.manifest(), SCHEMA, Said({}, {})), "")
    dock.correct("P1", "age", 62.0, "in the table")
    assert "Record dock" in dock.cohort.correction.problem.text()


def close_window(ward: Ward) -> None:
    ward.docks.viewer.window._qt_window.close()


def close_dock_and_window(ward: Ward) -> None:
    ward.docks.viewer.window.remove_dock_widget(ward.dock)
    close_window(ward)


@pytest.mark.parametrize(
    "leave",
    [
        *(open_slide_again, delete_slide, drop_slide, open_other_study),
        *(correct_in_table, close_window, close_dock_and_window),
    ],
)
def test_no_way_out_loses_a_correction_without_a_word(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Ward], None]
) -> None:
    correct(ward)
    slide = ward.pane.slide
    told = answer(monkeypatch, stay)
    leave(ward)
    ward.docks.wait(lambda: bool(told))
    ward.docks.idle()
    ward.land()
    check_typed(ward)
    assert ward.pane.slide is slide
    assert not slide.reader.closed
    assert {"slide", "map"} <= set(ward.docks.presenter._layers)
    assert ward.docks.session.study is ward.study


def test_a_slide_that_comes_after_a_correction_was_begun_does_not_take_it_away(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answer(monkeypatch, stay)
    ward.docks.slide.open(ward.pane.slide.path)
    correct(ward)
    ward.docks.idle()
    assert len(told) == 1
    check_typed(ward)


def test_a_text_that_is_no_value_is_held_too_and_not_saved(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(dialog: UnsavedDialog) -> int:
        dialog.why.setText("misread")
        assert not dialog.save_button.isEnabled()
        assert "invalid value" in dialog.problem.text()
        return QDialog.DialogCode.Rejected

    correct(ward, "age", "abc")
    assert not ward.dock.mode.trying.isEnabled()
    told = answer(monkeypatch, look)
    close_window(ward)
    assert len(told) == 1
    assert ward.dock.form.wrong


def test_what_is_still_being_typed_is_held_too(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.dock.mode.correct.setChecked(True)
    text = ward.dock.form.rows["ldh"].number.text
    monkeypatch.setattr(QApplication, "focusWidget", lambda: text)  # no window is shown here
    monkeypatch.setattr(text, "clearFocus", text.editingFinished.emit, raising=False)
    text.selectAll()
    ward.docks.qtbot.keyClicks(text, "555")
    assert ward.pane.record == RECORDS[0]
    told = answer(monkeypatch, stay)
    close_window(ward)
    assert len(told) == 1
    check_typed(ward)


def test_where_nothing_is_typed_nobody_is_asked(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = answer(monkeypatch, stay)
    ward.edit("ldh", "900")  # tried on
    open_case(ward, add_study_dock(ward))
    assert ward.pane.case.patient == "P2"
    ward.dock.mode.correct.setChecked(True)
    ward.edit("ldh", "900")
    ward.edit("ldh", "640")
    ward.docks.slide.open(ward.study.manifest().patients[0].slides[0].slide_path)
    ward.docks.idle()
    assert ward.pane.case is None
    assert told == []


def test_trying_on_begins_when_a_correction_is_saved_or_discarded(ward: Ward) -> None:
    correct(ward)
    trying = ward.dock.mode.trying
    assert not trying.isEnabled()
    assert "discard" in trying.toolTip()
    ward.edit("ldh", "210")
    assert trying.isEnabled()
    ward.edit("ldh", "555")
    ward.dock.mode.discard_button.click()
    assert trying.isEnabled()
    assert ward.pane.record == RECORDS[0]


def test_nothing_is_typed_while_a_correction_is_being_saved(ward: Ward) -> None:
    correct(ward)
    ward.dock.mode.why.setText("misread")
    ward.dock.mode.save_button.click()
    assert not ward.dock.isEnabled()
    ward.land()
    assert ward.dock.isEnabled()


def test_what_was_undone_is_not_done_again_over_what_is_typed(ward: Ward) -> None:
    correct(ward)
    ward.dock.mode.why.setText("misread")
    ward.dock.mode.save_button.click()
    ward.land()
    ward.dock.mode.correct.setChecked(True)
    ward.dock.undo_button.click()
    ward.land()
    correct(ward, "ldh", "600")
    assert not ward.dock.redo_button.isEnabled()
    ward.dock._go(1)
    ward.land()
    assert ward.pane.record["ldh"] == 600
    assert ward.study.records.read("P1").record == RECORDS[0]
