"""The Study dock on a real path: make, import, browse, open, correct, export, look back."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from cohorts import make_bag
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QInputDialog
from studies import damage, of_a_later_version, small_study
from table_plans import plan_for

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.field import Absent
from napari_wsimil.clinical.schema import NO_FIELDS, named_schema
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.cohort.table_import.questions import FIELD, NOTHING
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.matching import Survey
from napari_wsimil.features.store import save_bag
from napari_wsimil.gui.docks.study import import_dialog as study_import
from napari_wsimil.gui.docks.study import toolbar as study_ask
from napari_wsimil.gui.docks.study.dialogs import NewStudyDialog
from napari_wsimil.gui.docks.study.import_dialog import ImportDialog
from napari_wsimil.gui.docks.study.link_dialog import LinksDialog
from napari_wsimil.gui.docks.study.schema_dialog import SchemaDialog
from napari_wsimil.gui.names import NAMES
from napari_wsimil.gui.text import mismatch_lines
from napari_wsimil.gui.window import wait_until
from napari_wsimil.progress import finish
from napari_wsimil.study import pseudonyms
from napari_wsimil.study.audit_log import Act
from napari_wsimil.study.create_study import StudyError, open_study
from napari_wsimil.study.open_study import Unit
from napari_wsimil.workflows.link_features import Found, survey_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_wsimil.cohort.table_import.plan import ImportPlan, InferredTable
    from napari_wsimil.gui.plugin import SlideDock, StudyDock
    from napari_wsimil.study.records import Held

TABLE = (
    "patient_id,OS_STATUS,OS_MONTHS,ldh [U/L],stage",
    "Anna,1:DECEASED,12,NA,Stage II",
    "Bert,0:LIVING,30,250,i",
    "Carl,0:LIVING,31,90,iii",
)
ANSWERS = {"NA": "unknown", "OS_STATUS: event": "1:DECEASED"}


class Dock:
    """A viewer with our Slide and Study docks."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        from napari_wsimil.gui.plugin import SlideDock, StudyDock, session_of

        self.viewer, self.qtbot = viewer, qtbot
        self.slide: SlideDock = SlideDock(viewer)
        self.study: StudyDock = StudyDock(viewer)
        viewer.window.add_dock_widget(self.slide, name="Slide")
        viewer.window.add_dock_widget(self.study, name="Study")
        self.session = session_of(viewer)
        self.pane = self.session.pane

    def idle(self) -> None:
        jobs = (self.study.job, self.slide.job)
        self.qtbot.waitUntil(
            lambda: not (self.study.writing or any(job.busy for job in jobs)), timeout=60000
        )

    def column(self, name: str) -> int:
        return self.study.cohort.model.view.columns.index(name)

    def patient(self, row: int) -> str:
        model = self.study.cohort.model
        return model.headerData(row, Qt.Orientation.Vertical)

    def shown(self, row: int, name: str) -> str:
        model = self.study.cohort.model
        return model.index(row, self.column(name)).data()

    def write(self, row: int, name: str, text: str) -> None:
        """Type into a cell, as its editor would."""
        model = self.study.cohort.model
        model.setData(model.index(row, self.column(name)), text)


@pytest.fixture
def dock(
    make_napari_viewer: Callable[[], Viewer],
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Dock]:
    monkeypatch.setattr(pseudonyms, "user_data_path", lambda _: tmp_path / "data")
    made = Dock(make_napari_viewer(), qtbot)
    yield made
    for job in (made.study.job, made.slide.job):
        job.cancel()
    made.idle()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(TABLE) + "\n")
    return path


@pytest.fixture
def filled(dock: Dock, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dock:
    """The dock with a study of the table's three patients, imported through its dialog."""
    dock.study.create(tmp_path / "study", NO_FIELDS, "trial", Unit.PATIENT)
    dock.idle()
    _accept(monkeypatch, lambda dialog: [dialog.answer(*pair) for pair in ANSWERS.items()])
    dock.study.plan_import(table)
    dock.idle()
    return dock


def _accept(monkeypatch: pytest.MonkeyPatch, act: Callable[[Any], object]) -> None:
    """Let the next import dialog be answered and accepted."""

    def exec_(dialog: ImportDialog) -> int:
        act(dialog)
        wait_until(lambda: not dialog.busy)
        return QDialog.DialogCode.Accepted

    monkeypatch.setattr(ImportDialog, "exec_", exec_)


def test_without_a_study_buttons_say_what_is_first(dock: Dock) -> None:
    buttons = dock.study.buttons
    assert buttons.new.isEnabled()
    assert not buttons.table.isEnabled()
    assert buttons.table.toolTip() == "Open a study first"
    assert dock.study.tabs.isHidden()


def test_an_import_shows_pseudonyms_and_counts(filled: Dock, tmp_path: Path) -> None:
    assert "3 patients" in filled.study.facts.text()
    counts = "3 patients with an outcome: 1 event, 2 censored."
    assert filled.study.news.text() == f"Patients: 3 new.<br>{counts}"
    assert "outcome: OS in months<br>3 patients with an outcome" in filled.study.facts.text()
    assert [filled.patient(row) for row in range(3)] == ["P0001", "P0002", "P0003"]
    assert filled.shown(0, "ldh [U/L]") == "unknown"
    assert filled.shown(0, "event") == "happened"
    kept = b"".join(f.read_bytes() for f in (tmp_path / "study").rglob("*") if f.is_file())
    assert b"Anna" not in kept


def test_nothing_is_written_until_the_plan_is_accepted(
    dock: Dock, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ImportDialog] = []

    def exec_(dialog: ImportDialog) -> int:
        seen.append(dialog)
        assert not dialog.import_button.isEnabled()
        assert dialog.tabs.tabText(0) == "Questions (2 open)"
        for key, answer in ANSWERS.items():
            box = dialog.questions.boxes[key]
            box.setCurrentIndex(box.findData(answer))
            box.activated.emit(box.currentIndex())
            assert not dialog.import_button.isEnabled()
        wait_until(lambda: not dialog.busy)
        assert dialog.import_button.isEnabled()
        return QDialog.DialogCode.Rejected

    monkeypatch.setattr(ImportDialog, "exec_", exec_)
    dock.study.create(tmp_path / "study", NO_FIELDS, "trial", Unit.PATIENT)
    dock.idle()
    entries = len(dock.session.study.ledger.entries())
    dock.study.plan_import(table)
    dock.idle()
    assert "1:DECEASED   (1)" in [
        seen[0].questions.boxes["OS_STATUS: event"].itemText(i) for i in range(4)
    ]
    assert dock.session.study.manifest().patients == ()
    assert len(dock.session.study.ledger.entries()) == entries


def test_a_column_can_be_left_out_by_its_mark(filled: Dock, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("patient_id,crp,albumin\nDora,1,30\nEmil,2,40\n")
    dialog = ImportDialog(plan_for(filled.session.study, path))
    filled.qtbot.addWidget(dialog)
    item = dialog.columns.table.item(1, 0)
    assert item.checkState() == Qt.CheckState.Checked
    item.setCheckState(Qt.CheckState.Unchecked)
    wait_until(lambda: not dialog.busy)
    assert [column.header for column in dialog.plan.fields] == ["albumin"]
    assert dialog.columns.table.item(1, 0).checkState() == Qt.CheckState.Unchecked


def test_the_dialog_takes_time_and_event_that_nothing_recognizes(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.csv"
    path.write_text("patient_id,fu,state\nAnna,5,1\nBert,6,2\nCarl,-7,2\n")
    seen: list[str] = []

    def exec_(dialog: ImportDialog) -> int:
        for key, answer in (
            ("outcome", "other columns"),
            ("outcome: time", "fu"),
            ("outcome: event", "state"),
            ("state: event", "1"),
            ("outcome: unit", "days"),
        ):
            box = dialog.questions.boxes[key]
            box.setCurrentIndex(box.findData(answer))
            box.activated.emit(box.currentIndex())
            wait_until(lambda: not dialog.busy)
        seen.append(dialog.people.toPlainText())
        seen.append(dialog.summary.text())
        return QDialog.DialogCode.Accepted

    monkeypatch.setattr(ImportDialog, "exec_", exec_)
    dock.study.create(tmp_path / "study", NO_FIELDS, "trial", Unit.PATIENT)
    dock.idle()
    dock.study.plan_import(path)
    dock.idle()
    assert "without an outcome, negative time (1): Carl (row 4)" in seen[0]
    assert "1 patient without an outcome (negative time: 1)" in seen[1]
    assert "2 patients with an outcome: 1 event, 1 censored." in dock.study.news.text()
    assert [(p.time, p.event) for p in dock.session.study.manifest().patients] == [
        (5.0, True),
        (6.0, False),
        (None, None),
    ]


@pytest.fixture
def dialog(filled: Dock, tmp_path: Path) -> ImportDialog:
    """The dialog of a table with a column for each of two questions."""
    path = tmp_path / "more.csv"
    path.write_text("patient_id,crp,albumin\nDora,NA,30\nEmil,2,40\n")
    made = ImportDialog(plan_for(filled.session.study, path))
    filled.qtbot.addWidget(made)
    return made


class Gate:
    """Holds work in a thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.answers = threading.Event(), []
        plain = study_import.apply_answers

        def apply_answers(
            inferred: InferredTable, answers: dict[str, str], *, strict: bool
        ) -> ImportPlan:
            self.answers.append(answers)
            assert threading.current_thread() is not threading.main_thread()
            assert self.open.wait(30)
            return plain(inferred, answers, strict=strict)

        monkeypatch.setattr(study_import, "apply_answers", apply_answers)


def test_answers_are_worked_out_in_the_background_and_the_last_ones_count(
    dialog: ImportDialog, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, plan = Gate(monkeypatch), dialog.plan
    keys = {q.column: q.key for q in plan.questions if q.is_use}
    dialog.answer("NA", "missing")
    assert "Working out" in dialog.state.text()
    for column in ("crp", "albumin"):
        dialog.answer(keys[column], NOTHING)
    dialog.answer(keys["albumin"], FIELD)
    assert dialog.plan is plan
    dialog.accept()
    assert dialog.result() == 0
    gate.open.set()
    wait_until(lambda: not dialog.busy)
    assert [len(answers) for answers in gate.answers] == [1, 3]  # what came between is skipped
    assert [column.header for column in dialog.plan.fields] == ["albumin"]
    assert dialog.plan.answers["NA"] == "missing"
    assert dialog.state.isHidden()
    dialog.accept()
    assert dialog.result() == QDialog.DialogCode.Accepted


def test_a_dialog_that_is_closed_while_it_works_stays_as_it_was(
    dialog: ImportDialog, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, plan = Gate(monkeypatch), dialog.plan
    dialog.answer("NA", "missing")
    latest = dialog._latest
    dialog.reject()
    gate.open.set()
    wait_until(lambda: not latest.busy)
    assert dialog.plan is plan


def test_an_answer_that_cannot_be_is_told_and_the_plan_stays(
    dialog: ImportDialog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply_answers(*_: object, **__: object) -> ImportPlan:
        raise RecordError("row 2: no such name")

    monkeypatch.setattr(study_import, "apply_answers", apply_answers)
    plan = dialog.plan
    dialog.answer("NA", "missing")
    wait_until(lambda: not dialog.busy)
    assert dialog.state.text() == "row 2: no such name"
    assert dialog.plan is plan


def test_searching_and_sorting_keep_rows_and_patients_together(filled: Dock) -> None:
    cohort = filled.study.cohort
    cohort.table.sortByColumn(filled.column("ldh [U/L]"), Qt.SortOrder.AscendingOrder)
    assert [filled.patient(row) for row in range(3)] == ["P0003", "P0002", "P0001"]
    cohort.search.setText("stage ii")
    assert cohort.count.text() == "2 of 3 patients"
    wanted = []
    cohort.wanted.connect(wanted.append)
    cohort.table.doubleClicked.emit(cohort.model.index(0, 0))
    assert wanted == ["P0003"]


def test_a_correction_asks_why_and_is_kept(filled: Dock) -> None:
    cohort, study = filled.study.cohort, filled.session.study
    cohort.correct_button.click()
    filled.write(1, "ldh [U/L]", "260")
    assert study.patient("P0002").record["ldh [U/L]"] == 250.0
    assert not cohort.correction.save_button.isEnabled()
    cohort.correction.why.setText("lab report")
    cohort.correction.save_button.click()
    filled.idle()
    assert study.patient("P0002").record["ldh [U/L]"] == 260.0
    assert filled.shown(1, "ldh [U/L]") == "260"
    entry = study.ledger.entries(newest=1)[0]
    assert (entry.act, entry.why, entry.old, entry.new) == (
        Act.CORRECTED,
        "lab report",
        "250",
        "260",
    )


def test_what_the_schema_refuses_is_said_and_changes_nothing(filled: Dock) -> None:
    cohort = filled.study.cohort
    cohort.correct_button.click()
    filled.write(1, "ldh [U/L]", "much")
    assert "'much' is not a finite number in U/L" in cohort.correction.problem.text()
    assert cohort.correction.save_button.isHidden()
    filled.write(1, "ldh [U/L]", "missing")
    cohort.correction.why.setText("not measured")
    cohort.correction.save_button.click()
    filled.idle()
    assert filled.session.study.patient("P0002").record["ldh [U/L]"] is Absent.MISSING
    assert cohort.correction.problem.text() == ""


def test_a_correction_that_waits_stays_until_it_is_saved_or_discarded(
    filled: Dock, tmp_path: Path
) -> None:
    cohort = filled.study.cohort
    cohort.correct_button.click()
    filled.write(1, "ldh [U/L]", "260")
    filled.write(2, "ldh [U/L]", "95")
    assert "P0002" in cohort.correction.words.text()
    assert "Save this correction first" in cohort.correction.problem.text()
    filled.write(2, "ldh [U/L]", "much")
    assert not cohort.correct_button.isEnabled()
    small_study(tmp_path / "other").close()
    filled.study.tabs.setCurrentWidget(filled.study.ledger)
    filled.study.open(tmp_path / "other")
    filled.viewer.window._qt_window.close()
    filled.idle()
    assert filled.study.tabs.currentWidget() is cohort
    assert filled.session.study.folder == tmp_path / "study"
    cohort.correction.why.setText("lab report")
    cohort.correction.save_button.click()
    filled.idle()
    assert filled.shown(1, "ldh [U/L]") == "260"
    assert filled.shown(2, "ldh [U/L]") == "90"
    assert cohort.correct_button.isEnabled()
    filled.study.open(tmp_path / "other")
    filled.idle()
    assert filled.session.study.folder == tmp_path / "other"


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
    filled: Dock, tmp_path: Path
) -> None:
    with open_study(tmp_path / "study", who="other") as other:
        held = other.records.read("P0002")
        other.records.correct("P0002", {"ldh [U/L]": 300.0}, "theirs", version=held.version)
    cohort = filled.study.cohort
    cohort.correct_button.click()
    filled.write(1, "ldh [U/L]", "260")
    cohort.correction.why.setText("mine")
    cohort.correction.save_button.click()
    filled.idle()
    assert "was changed by somebody else" in cohort.correction.problem.text()
    assert filled.shown(1, "ldh [U/L]") == "300"
    assert filled.session.study.patient("P0002").record["ldh [U/L]"] == 300.0


def test_values_cannot_be_edited_unless_correcting(filled: Dock) -> None:
    model = filled.study.cohort.model
    index = model.index(1, filled.column("ldh [U/L]"))
    assert not model.flags(index) & Qt.ItemFlag.ItemIsEditable
    filled.study.cohort.correct_button.click()
    assert model.flags(index) & Qt.ItemFlag.ItemIsEditable
    name = model.index(1, filled.column("event"))
    assert not model.flags(name) & Qt.ItemFlag.ItemIsEditable


def test_a_case_opens_with_its_slide_and_record(
    filled: Dock, small_slide: Path, tmp_path: Path
) -> None:
    study = filled.session.study
    study.add([Patient("P0002", (SlideRow("P0002-1", small_slide),))], "slides")
    study.add([Patient("P0003", (SlideRow("P0003-1", tmp_path / "gone.svs"),))], "slides")
    filled.study.open(study.folder)
    filled.idle()
    filled.study.open_case("P0002")
    filled.idle()
    assert filled.pane.slide.path == small_slide
    assert filled.pane.case.patient == "P0002"
    assert filled.pane.record["ldh [U/L]"] == 250.0
    assert len(filled.pane.case.cohort) == 3
    filled.study.open_case("P0003")
    filled.idle()
    assert "image not where the study says" in filled.study.news.text()
    assert filled.pane.slide is None
    assert filled.pane.case.patient == "P0003"


def test_a_case_is_read_in_the_background_and_the_last_one_wanted_is_opened(
    filled: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, read, plain = threading.Event(), [], filled.session.study.records.read

    def held(name: str) -> Held:
        assert threading.current_thread() is not threading.main_thread()
        assert gate.wait(30)
        read.append(name)
        return plain(name)

    monkeypatch.setattr(filled.session.study.records, "read", held)
    for name in ("P0001", "P0002", "P0003"):
        filled.study.open_case(name)
    assert filled.pane.case is None
    gate.set()
    filled.idle()
    assert read == ["P0001", "P0003"]
    assert filled.pane.case.patient == "P0003"


def test_a_case_that_is_still_being_read_when_another_study_opens_is_not_opened(
    filled: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, plain = threading.Event(), filled.session.study.records.read

    def held(name: str) -> Held:
        gate.wait(30)
        return plain(name)

    monkeypatch.setattr(filled.session.study.records, "read", held)
    small_study(tmp_path / "other").close()
    filled.study.open_case("P0002")
    filled.study.open(tmp_path / "other")
    filled.qtbot.waitUntil(lambda: filled.session.study.folder.name == "other", timeout=30000)
    gate.set()
    filled.idle()
    assert filled.pane.case is None


def test_a_patient_who_cannot_be_read_is_told_and_nobody_else_stays(
    filled: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.study.open_case("P0002")
    filled.idle()

    def read(name: str) -> Held:
        raise StudyError("study.db: it is damaged")

    monkeypatch.setattr(filled.session.study.records, "read", read)
    filled.study.open_case("P0003")
    filled.idle()
    assert filled.study.news.text() == "P0003 cannot be opened: study.db: it is damaged"
    assert filled.pane.case is None


def test_a_corrected_case_is_shown_as_corrected(filled: Dock) -> None:
    filled.study.open_case("P0002")
    filled.idle()
    version = filled.pane.case.version
    filled.study.correct("P0002", "ldh [U/L]", 270.0, "lab")
    filled.idle()
    assert filled.pane.case.record["ldh [U/L]"] == 270.0
    assert filled.pane.case.version > version


def test_a_case_follows_a_change_of_the_fields(filled: Dock) -> None:
    filled.study.open_case("P0002")
    filled.idle()
    schema = filled.session.study.schema
    filled.study.set_schema(schema.model_copy(update={"rules": ("OS_MONTHS > 1",)}), "a rule")
    filled.idle()
    assert filled.pane.case.schema.rules == ("OS_MONTHS > 1",)


def test_a_folder_of_slides_becomes_cases(dock: Dock, small_slide: Path, tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    shutil.copy(small_slide, slides / "name of somebody.svs")
    dock.study.open_slides(slides, tmp_path / "study")
    dock.idle()
    assert dock.patient(0) == "P0001"
    dock.study.cohort.table.selectRow(0)
    assert dock.study.slides.list.itemText(0) == "P0001-1"
    dock.study.slides.open_button.click()
    dock.idle()
    assert dock.pane.case.patient == "P0001"


def test_the_ledger_is_shown_newest_first_and_its_chain_is_checked(filled: Dock) -> None:
    filled.study.tabs.setCurrentWidget(filled.study.ledger)
    filled.idle()
    model = filled.study.ledger.model
    entries = filled.session.study.ledger.entries()
    assert model.rowCount() == len(entries)
    assert model.index(0, 1).data() == "imported"
    assert f"The chain of {len(entries)} entries holds" in filled.study.ledger.state.text()
    filled.study.ledger.search.setText("P0002")
    assert {model.index(row, 2).data() for row in range(model.rowCount())} == {"P0002"}


def test_an_export_is_told_and_noted(filled: Dock, tmp_path: Path) -> None:
    filled.study.export(tmp_path / "out.xlsx")
    filled.idle()
    assert filled.study.news.text() == "Wrote out.xlsx."
    assert filled.session.study.ledger.entries(newest=1)[0].act is Act.EXPORTED


def test_fields_are_edited_in_a_table_and_refused_in_words(filled: Dock) -> None:
    study = filled.session.study
    dialog = SchemaDialog(study.schema)
    filled.qtbot.addWidget(dialog)
    names = [row[0] for row in dialog.rows]
    row = names.index("ldh [U/L]")
    dialog.table.item(row, 4).setText("0 to much")
    dialog.accept()
    assert "is not LOW to HIGH" in dialog.problem.text()
    dialog.table.item(row, 4).setText("0 to 9000")
    dialog.accept()
    assert "Say why" in dialog.problem.text()
    dialog.why.setText("limits of the lab")
    dialog.accept()
    assert dialog.result() == QDialog.DialogCode.Accepted
    filled.study.set_schema(dialog.schema, "limits of the lab")
    filled.idle()
    assert study.schema.by_name["ldh [U/L]"].hard == (0, 9000)


def test_a_schema_that_records_do_not_fit_is_refused(filled: Dock) -> None:
    schema = named_schema("lymphoma")
    field = schema.by_name["ldh"].model_copy(update={"name": "ldh [U/L]", "hard": (0, 100)})
    filled.study.set_schema(
        schema.model_copy(update={"fields": (field,), "inputs": (), "rules": ()}), "x"
    )
    filled.idle()
    assert "does not fit P0002's record" in filled.study.cohort.correction.problem.text()
    assert len(filled.session.study.schema.fields) == 4


def test_a_study_that_cannot_be_written_says_so(dock: Dock, tmp_path: Path) -> None:
    small_study(tmp_path / "study").close()
    of_a_later_version(tmp_path / "study")
    dock.study.open(tmp_path / "study")
    dock.idle()
    assert "newer version of this program" in dock.study.facts.text()
    assert [dock.patient(row) for row in range(2)] == ["P1", "P2"]
    for button in (dock.study.buttons.table, dock.study.cohort.correct_button):
        assert not button.isEnabled()
        assert "newer version" in button.toolTip()


def test_a_new_study_is_asked_for_with_a_schema_that_ships(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exec_(dialog: Any) -> int:
        assert not dialog.make_button.isEnabled()
        dialog.place.choose(tmp_path / "study")
        dialog.fields.setCurrentIndex(dialog.fields.findData("lymphoma"))
        return QDialog.DialogCode.Accepted

    monkeypatch.setattr(NewStudyDialog, "exec_", exec_)
    dock.study.buttons.new.click()
    dock.idle()
    assert len(dock.session.study.schema.fields) == 28


def test_features_are_linked_after_their_passports_are_shown(
    dock: Dock,
    small_slide: Path,
    features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with small_study(tmp_path / "study") as study:
        study.add([Patient("P7", (SlideRow("slide", small_slide),))], "a real one")
    asked: list[LinksDialog] = []

    def exec_(dialog: LinksDialog) -> int:
        asked.append(dialog)
        assert dialog.table.rowCount() == 1
        assert dialog.table.item(0, 0).text() == "slide"
        assert "edges passed" in dialog.table.item(0, 3).text()
        assert "no features" in dialog.tabs.widget(1).toPlainText()
        if len(asked) == 1:
            dialog.said["encoder"].setText("uni")
            dialog.again_button.click()
            return dialog.result()
        assert dialog.table.item(0, 2).text() == "uni (unverified)"
        return QDialog.DialogCode.Accepted

    monkeypatch.setattr(LinksDialog, "exec_", exec_)
    dock.study.open(tmp_path / "study")
    dock.idle()
    dock.study.find_features(features.parent, Confirmed())
    dock.idle()
    assert len(asked) == 2
    assert dock.study.news.text() == "Features linked: 1 new."
    assert dock.session.study.links()["slide"].path == features
    dock.study.open_case("P7")
    dock.idle()
    assert dock.pane.case.patient == "P7"
    assert dock.pane.bag is not None
    assert dock.pane.bag.encoder.startswith("uni")


def test_good_features_are_linked_beside_a_damaged_file_that_is_named(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "features").mkdir()
    for seed, name in enumerate("abcde"):
        save_bag(tmp_path / "features" / f"{name}.h5", make_bag(seed))
    data = bytearray((tmp_path / "features" / "a.h5").read_bytes())
    data[600:3000:50] = bytes(byte ^ 0x5A for byte in data[600:3000:50])
    (tmp_path / "features" / "rotten.h5").write_bytes(bytes(data))
    with small_study(tmp_path / "study") as study:
        names = (*"abcde", "rotten")
        study.add([Patient(f"Q{name}", (SlideRow(name),)) for name in names], "test")

    def exec_(dialog: LinksDialog) -> int:
        assert dialog.table.rowCount() == 5
        lost = dialog.tabs.widget(1).toPlainText().splitlines()
        assert len([line for line in lost if line.startswith("a .h5 file: damaged")]) == 1
        assert "rotten.h5" not in "".join(lost)
        return QDialog.DialogCode.Accepted

    monkeypatch.setattr(LinksDialog, "exec_", exec_)
    dock.study.open(tmp_path / "study")
    dock.idle()
    dock.study.find_features(tmp_path / "features", Confirmed())
    dock.idle()
    assert dock.study.news.text() == "Features linked: 5 new. Not linked: 1 not readable."
    found = finish(survey_job(dock.session.study, tmp_path / "features", Confirmed()))
    monkeypatch.setattr(NAMES, "shown", True)
    assert len([line for line in mismatch_lines(found) if line.startswith("rotten.h5: ")]) == 1
    assert set(dock.session.study.links()) == set("abcde")


def test_what_is_typed_of_features_must_be_a_number(filled: Dock, tmp_path: Path) -> None:
    dialog = LinksDialog(Found(tmp_path, Confirmed(), Survey((), ())))
    filled.qtbot.addWidget(dialog)
    dialog.said["mpp"].setText("half")
    dialog.again_button.click()
    assert "mpp=half" in dialog.problem.text()
    assert dialog.result() == 0
    assert not dialog.link_button.isEnabled()


def test_a_damaged_study_is_restored_from_the_dock(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study(tmp_path / "study").close()
    with open_study(tmp_path / "study") as study:
        study.link([], "a backup of both patients")
    dock.study.open(tmp_path / "study")
    dock.idle()
    assert dock.study.buttons.restore.isHidden()
    shutil.copytree(tmp_path / "study", tmp_path / "copy")
    damage(tmp_path / "copy", "runs")
    dock.study.open(tmp_path / "copy")
    dock.idle()
    assert "is damaged. Restore a backup" in dock.study.facts.text()
    assert not dock.study.buttons.table.isEnabled()
    assert not dock.study.buttons.restore.isHidden()
    offered = []

    def choose(*arguments: Any, **_: Any) -> tuple[str, bool]:
        offered.extend(arguments[3])
        return arguments[3][0], True

    monkeypatch.setattr(QInputDialog, "getItem", choose)
    dock.study.buttons.restore.click()
    dock.idle()
    assert "UTC (import)" in offered[0]
    assert dock.session.study.folder == tmp_path / "copy"
    assert dock.session.study.read_only == ""
    assert len(dock.study.cases.manifest.patients) == 2
    assert "Restored the backup of" in dock.study.news.text()
    assert "backups/replaced-" in dock.study.news.text()
    assert dock.study.buttons.restore.isHidden()
    assert dock.study.buttons.table.isEnabled()


def test_a_study_too_damaged_to_open_is_restored_from_the_dock(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study(tmp_path / "study").close()
    (tmp_path / "study" / "study.db").write_bytes(b"junk" * 4096)
    dock.study.open(tmp_path / "study")
    dock.idle()
    assert dock.session.study is None
    assert not dock.study.buttons.restore.isHidden()
    monkeypatch.setattr(study_ask, "ask_backup", lambda *_: None)
    dock.study.buttons.restore.click()  # canceled
    assert dock.session.study is None
    monkeypatch.setattr(study_ask, "ask_backup", lambda *_: "")
    dock.study.buttons.restore.click()
    dock.idle()
    assert dock.session.study.read_only == ""
    assert dock.study.buttons.restore.isHidden()


def test_the_sheet_of_a_workbook_is_chosen_in_the_dialog(
    dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = openpyxl.Workbook()
    book.active.append([])
    for title, name in (("men", "Carl"), ("women", "Dora")):
        sheet = book.create_sheet(title)
        sheet.append(["patient_id", "age"])
        sheet.append([name, 50])
    book.save(tmp_path / "t.xlsx")
    shown: list[str] = []

    def exec_(dialog: ImportDialog) -> int:
        shown.append(dialog.sheet.currentText())
        if len(shown) > 1:
            return QDialog.DialogCode.Accepted
        assert [dialog.sheet.itemText(i) for i in range(3)] == ["Sheet", "men", "women"]
        assert not dialog.sheet.isHidden()
        dialog.sheet.setCurrentText("women")
        dialog.sheet.activated.emit(2)
        return dialog.result()

    monkeypatch.setattr(ImportDialog, "exec_", exec_)
    dock.study.create(tmp_path / "study", NO_FIELDS, "trial", Unit.PATIENT)
    dock.idle()
    dock.study.plan_import(tmp_path / "t.xlsx")
    dock.idle()
    assert shown == ["men", "women"]  # the first sheet is no table of patients
    assert "Dora" in next((tmp_path / "data").rglob("*.json")).read_text()
    assert len(dock.session.study.manifest().patients) == 1


def test_models_that_were_trained_on_the_study_are_told(filled: Dock, tmp_path: Path) -> None:
    page = filled.study.runs
    filled.study.tabs.setCurrentWidget(page)
    filled.idle()
    assert (page.words.isHidden(), page.table.isHidden()) == (False, True)
    path, patients = tmp_path / "late.safetensors", ("P0001", "P0002")
    with open_study(tmp_path / "study") as other:
        other.runs.add("abmil", "ab12", tmp_path / "early.safetensors", {}, patients, ())
        other.runs.add("acmil", "cd34", path, {"test auc": 0.75}, patients, ("P0003",))
    filled.study.tabs.setCurrentWidget(filled.study.cohort)
    filled.study.tabs.setCurrentWidget(page)
    filled.idle()
    assert (page.words.isHidden(), page.table.isHidden()) == (True, False)
    assert [page.table.item(row, 2).text() for row in range(2)] == [
        "late",
        "early",
    ]
    shown = [page.table.item(0, column).text() for column in (1, 3, 4)]
    assert shown == ["acmil", "3", "test auc 0.75"]
