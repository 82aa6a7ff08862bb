"""RecordWidget: the patient's record, edited while the attention follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.clinical.schema import Record
from napari_wsimil.gui.case import mismatch
from napari_wsimil.gui.docks.record.comparison import AnswerBars, ChangeBox
from napari_wsimil.gui.docks.record.form import RecordForm
from napari_wsimil.gui.docks.record.live_updater import Follower
from napari_wsimil.gui.docks.record.mode import RecordMode, Unsaved
from napari_wsimil.gui.docks.record.scenarios import ScenarioButton, Trail
from napari_wsimil.gui.docks.record.sensitivity import SweepBox
from napari_wsimil.gui.record_saver import RecordSaver
from napari_wsimil.gui.widgets.basic import Fold
from napari_wsimil.gui.widgets.dock import DockedWidget, allow, listen, while_shown
from napari_wsimil.gui.widgets.job_row import JobRow
from napari_wsimil.study.case import Case, why_not_correct
from napari_wsimil.workflows.record_edits import noise_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.clinical.field import Value
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.gui.session import Session
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.workflows.live_update import Revised

_NOBODY = "Open a case of a study, or a model that reads records: its fields are then here."


class RecordWidget(DockedWidget):
    """Sets the record of the session's pane, and brings its maps up to it."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._trail = Trail()
        self._form_of: tuple[Case | None, RecordFormat | None] = (None, None)
        self.follower = Follower(self._pane, self)
        self.saver = RecordSaver(session)
        self.noise_job = JobRow()
        self.sweep = SweepBox(self._pane)
        self.scenarios = ScenarioButton(self._pane)
        self.mode = RecordMode()
        self.hint = QLabel(_NOBODY)
        self.problem = QLabel()
        for label in (self.hint, self.problem):
            label.setWordWrap(True)
        self.problem.setStyleSheet("color: #d55e00")
        self.bars = AnswerBars(self._pane)
        self.change = ChangeBox(session)
        self.form = RecordForm()
        self.unsaved = Unsaved(self._pane, self.form, self.mode, self.saver, self)
        self.fields = Fold("Which field moves this model here?", self.sweep)
        self.layout().setContentsMargins(2, 4, 2, 0)
        for place, part in enumerate((self.mode, self.bars)):  # seen wherever the form is scrolled
            self.layout().insertWidget(place, part)
        for part in (self.hint, self.problem, self.change, self.noise_job):
            self.column.addWidget(part)
        self.column.addWidget(self.fields)
        self.column.addLayout(self._build_trail())
        self.column.addWidget(self.form)
        self.column.addStretch(1)
        self._connect()
        self._show_case()

    @property
    def jobs(self) -> tuple[JobRow, ...]:
        """Return all that may run here."""
        return self.noise_job, self.sweep.job

    @property
    def busy(self) -> bool:
        """Whether something on screen is older than the record, or still being written."""
        return self.follower.busy or self.saver.busy

    # build

    def _build_trail(self) -> QHBoxLayout:
        self.undo_button = QPushButton("Undo")
        self.redo_button = QPushButton("Redo")
        self.own_button = QPushButton("Reset to record")
        row = QHBoxLayout()
        for button in (self.undo_button, self.redo_button, self.own_button, self.scenarios):
            row.addWidget(button)
        return row

    def _connect(self) -> None:
        pane, form = self._pane, self.form
        form.edited.connect(self._try_on)
        form.rested.connect(self._rest)
        form.refused.connect(self.unsaved.watch)
        self.undo_button.clicked.connect(lambda: self._go(-1))
        self.redo_button.clicked.connect(lambda: self._go(1))
        self.own_button.clicked.connect(self._go_home)
        self.mode.switched.connect(self._switch)
        self.mode.discarded.connect(self.mode.end)
        self.mode.saved.connect(self._save)
        self.unsaved.wanted.connect(self._save)
        listen(self, self.saver.close_pending, pane.prediction_state.events.prediction)
        listen(self, self.saver.close_pending, pane.record_state.events.case)
        listen(self, self._show_corrected, self.saver.saved)
        listen(self, self._refuse, self.saver.failed)
        self.scenarios.opened.connect(self._try_scenario)
        self.scenarios.failed.connect(self._fail)
        self.sweep.chosen.connect(self._try_value)
        self.sweep.offered.connect(self.fields.setVisible)
        self.change.noise_button.clicked.connect(self._measure_noise)
        self.follower.started.connect(self.bars.tell_behind)
        self.follower.landed.connect(self._tell)
        self.follower.failed.connect(self._fail)
        self.follower.preparing.connect(self._tell_preparing)
        record, prediction = pane.record_state.events, pane.prediction_state.events
        listen(self, self._show_case, record.case, prediction.model)
        listen(self, self._follow, record.record)
        listen(self, self._compare, pane.view_state.events.display, prediction.prediction)

    # act

    def try_on(self, changes: Mapping[str, str]) -> None:
        """Try on texts of some fields of the case, and show where they are and what they move."""
        case, record = self._pane.case, self._pane.record
        if case is not None and record is not None:
            self.form.search.setText(next(iter(changes), ""))
            self._try_whole(case.schema.apply(record, changes), "")

    def _try_on(self, record: Record) -> None:
        self.saver.start_edit()
        self._pane.record_state.record = record

    def _rest(self, why: str = "") -> None:
        """Take what was edited for one step of the trail, and note it."""
        record, before = self._pane.record, self._trail.record
        if record is None or before is None or not self._trail.add(record):
            return
        self._note(before, record, why)
        self._show_trail()

    def _note(self, old: Record, new: Record, why: str) -> None:
        case = self._pane.case
        if case is not None and not self.mode.correcting:
            self.saver.finish_edit(case, old, new, why, complete=not self.follower.busy)

    def _go(self, steps: int) -> None:
        """Undo or redo what was tried on; while correcting, beyond that what was saved."""
        case, before = self._pane.case, self._trail.record
        stuck = self._trail.first if steps < 0 else self._trail.last
        if self.mode.correcting and stuck and case is not None:
            if not self.unsaved.there:
                (self.saver.undo if steps < 0 else self.saver.redo)(case)
                self.setEnabled(not self.saver.busy)  # what is typed meanwhile would be lost
            return
        self.saver.start_edit()
        record = self._trail.go(steps)
        if record is not None and before is not None:
            self._show_again(record)
            self._note(before, record, "undo" if steps < 0 else "redo")

    def _go_home(self) -> None:
        case = self._case()
        if case is not None:
            self._try_whole(case.record, "as recorded")

    def _try_value(self, field: str, value: Value) -> None:
        if self._pane.record is not None:
            record = Record({**self._pane.record.values, field: value})
            self._try_whole(record, "a value of the sweep")

    def _try_scenario(self, record: Record, name: str) -> None:
        self._try_whole(record, f"scenario {name}")

    def _try_whole(self, record: Record, why: str) -> None:
        self.saver.start_edit()
        self._show_again(record)
        self._rest(why)

    def _show_again(self, record: Record) -> None:
        self._pane.record_state.record = record
        self.form.show_record(record)  # also over a text that is no value, where nothing changed
        self.unsaved.watch()
        self._show_trail()

    def _switch(self, correcting: bool) -> None:
        """Begin with the patient's own record, whatever was tried on."""
        case = self._case()
        if case is not None:
            self._trail = Trail(case.record)
            self._show_again(case.record)

    def _save(self, why: str) -> None:
        case, record = self._pane.case, self._pane.record
        if self.form.wrong:
            self._fail("A field has a value that cannot be: mend it, or discard")
        elif case is not None and record is not None:
            self.saver.correct(case, record, why)
            self.setEnabled(not self.saver.busy)

    def _refuse(self, words: str) -> None:
        """Tell why something was not written; it can be edited further."""
        self.setEnabled(True)
        self._fail(words)

    def _show_corrected(self, case: Case) -> None:
        """Show the record as the study has it now; what is compared begins anew."""
        self.setEnabled(True)
        if self._pane.case is not None and self._pane.case.patient == case.patient:
            self._pane.prediction_state.baseline = None
            self._pane.show_case(case)
            self.mode.end()

    def _measure_noise(self) -> None:
        pane = self._pane
        if pane.model is not None and pane.prediction_state.baseline is not None:
            job = noise_job(pane.model, pane.prediction_state.baseline)
            self.noise_job.run(job, while_shown(pane, self._tell_noise))

    def _tell_noise(self, noise: Noise) -> None:
        self.change.tell_noise(noise, self.follower.compared)

    # follow

    def _follow(self, record: Record | None) -> None:
        pane = self._pane
        if record is None:
            return
        if record is not self.form.record:
            self.form.show_record(record)
        self.unsaved.watch()
        if pane.prediction is None or self._mismatch():
            return
        own = pane.case is not None and record is pane.case.record
        if (
            pane.prediction_state.baseline is None
            and not own
            and pane.prediction.record is not None
        ):
            pane.prediction_state.baseline = pane.prediction
        self.follower.follow()

    def _compare(self, _: object = None, __: object = None) -> None:
        """Compare the map that is shown, or go on with the one before where it is a change."""
        prediction, index = self._pane.prediction, self._pane.display.map_index
        if prediction is not None and index < len(prediction.explanations):
            name = prediction.explanations[index].name
            self.follower.compared = self.sweep.compared = self.change.compared = name

    def _tell(self, revised: Revised) -> None:
        self.saver.log_pending()
        self.change.tell(revised.movement, self.follower.compared)
        self.bars.tell(f"Map updated in {self.follower.milliseconds:.0f} ms")

    def _tell_preparing(self, done: int, total: int) -> None:
        self.bars.tell(f"Preparing the slide for edits, once: {done / total:.0%}")

    def _fail(self, words: str) -> None:
        self.problem.setText(words)
        self.problem.setVisible(bool(words))

    # show

    def _show_case(self, _: object = None) -> None:
        case, model = self._case(), self._pane.model
        read = None if model is None else model.card.record
        self.hint.setVisible(case is None)
        buttons = (self.undo_button, self.redo_button, self.own_button, self.scenarios)
        for part in (self.mode, self.form, *buttons):
            part.setVisible(case is not None)
        self.sweep.show_case(case)
        self._fail(self._mismatch())
        if case is None:
            self.form.show_case(None, None)
            self.unsaved.watch()
            return
        self.mode.show_patient(case.patient, why_not_correct(case, self._session.study))
        self._trail = Trail(self._pane.record or case.record)
        self.form.show_case(case, read)
        self.form.show_record(self._pane.record or case.record)
        if self._pane.case is None and self._pane.record is None:
            self._pane.record_state.case = case
            self._pane.record_state.record = case.record
        self.unsaved.watch()
        self._show_trail()

    def _case(self) -> Case | None:
        model = self._pane.model
        return self._pane.record_state.editable(None if model is None else model.card)

    def _mismatch(self) -> str:
        case, model = self._case(), self._pane.model
        return "" if case is None or model is None else mismatch(case, model.card)

    def _show_trail(self) -> None:
        saved = self.mode.correcting and not self.unsaved.there
        back = "Take back what was edited, or the last correction"
        allow(self.undo_button, saved or not self._trail.first, "Nothing was edited", back)
        again = "Do again what was undone"
        allow(self.redo_button, saved or not self._trail.last, "Nothing was undone", again)
        own = "Restore the patient's stored values"
        edited = bool(self._pane.record_state.edits)
        allow(self.own_button, edited, "No value differs from the stored record", own)
