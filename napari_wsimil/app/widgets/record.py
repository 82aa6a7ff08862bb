"""RecordWidget: the patient's record, edited while the attention follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_wsimil.app.case import Case
from napari_wsimil.app.widgets.change_box import ChangeBox
from napari_wsimil.app.widgets.docked import DockedWidget, allow
from napari_wsimil.app.widgets.follower import Follower
from napari_wsimil.app.widgets.record_form import RecordForm
from napari_wsimil.app.widgets.record_mode import RecordMode
from napari_wsimil.app.widgets.trail import Trail
from napari_wsimil.study.tables import RecordError

if TYPE_CHECKING:
    from napari_wsimil.app.following import Revised
    from napari_wsimil.app.session import Session
    from napari_wsimil.models.record import RecordFormat
    from napari_wsimil.study.schema import Record

_NOBODY = "Open a case of a study, or a model that reads records: its fields are then here."


class RecordWidget(DockedWidget):
    """Sets the record of the session's pane, and brings its maps up to it."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._trail = Trail()
        self._form_of: tuple[Case | None, RecordFormat | None] = (None, None)
        self.follower = Follower(self._pane, self)
        self.mode = RecordMode()
        self.hint = QLabel(_NOBODY)
        self.problem = QLabel()
        for label in (self.hint, self.problem):
            label.setWordWrap(True)
        self.problem.setStyleSheet("color: #d55e00")
        self.change = ChangeBox(session)
        self.form = RecordForm()
        for part in (self.hint, self.mode, self.problem, self.change):
            self.column.addWidget(part)
        self.column.addLayout(self._build_trail())
        self.column.addWidget(self.form)
        self.column.addStretch(1)
        self._connect()
        self._show_case()

    # build

    def _build_trail(self) -> QHBoxLayout:
        self.undo_button = QPushButton("Undo")
        self.redo_button = QPushButton("Redo")
        self.own_button = QPushButton("As recorded")
        self.own_button.setToolTip("Back to the patient's own record")
        row = QHBoxLayout()
        for button in (self.undo_button, self.redo_button, self.own_button):
            row.addWidget(button)
        return row

    def _connect(self) -> None:
        pane, form = self._pane, self.form
        form.edited.connect(self._try_on)
        form.rested.connect(self._rest)
        self.undo_button.clicked.connect(lambda: self._go(-1))
        self.redo_button.clicked.connect(lambda: self._go(1))
        self.own_button.clicked.connect(self._go_home)
        self.mode.switched.connect(self._switch)
        self.mode.discarded.connect(self.mode.end)
        self.follower.started.connect(self.change.tell_behind)
        self.follower.landed.connect(self._tell)
        self.follower.failed.connect(self._fail)
        self.follower.preparing.connect(self._tell_preparing)
        for event in ("case", "model"):
            pane.events[event].connect(self._show_case)
        pane.events.record.connect(self._follow)
        pane.events.display.connect(self._compare)
        pane.events.prediction.connect(self._compare)

    # act

    def _try_on(self, record: Record) -> None:
        self._pane.record = record

    def _rest(self) -> None:
        """Take what was edited for one step of the trail."""
        record = self._pane.record
        if record is not None and self._trail.add(record):
            self._show_trail()

    def _go(self, steps: int) -> None:
        record = self._trail.go(steps)
        if record is not None:
            self._show_again(record)

    def _go_home(self) -> None:
        case = self._case()
        if case is not None:
            self._trail.add(case.record)
            self._show_again(case.record)

    def _show_again(self, record: Record) -> None:
        self.form.show_record(record)
        self._pane.record = record
        self._show_trail()

    def _switch(self, correcting: bool) -> None:
        """Begin with the patient's own record, whatever was tried on."""
        case = self._case()
        if case is not None:
            self._trail = Trail(case.record)
            self._show_again(case.record)

    # follow

    def _follow(self, record: Record | None) -> None:
        pane = self._pane
        if not isalive(self) or record is None or pane.prediction is None:
            return
        if pane.baseline is None:
            pane.baseline = pane.prediction
        self.mode.allow_saving(bool(self._changes()))
        self.follower.follow()

    def _changes(self) -> dict[str, object]:
        case, record = self._case(), self._pane.record
        return dict(case.record.changes(record)) if case is not None and record else {}

    def _compare(self, _: object = None, __: object = None) -> None:
        """Compare the map that is shown, or go on with the one before where it is a change."""
        prediction, index = self._pane.prediction, self._pane.display.map_index
        if prediction is not None and index < len(prediction.explanations):
            self.follower.compared = prediction.explanations[index].name

    def _tell(self, revised: Revised) -> None:
        self.change.tell(revised.movement, self.follower.compared)
        self.change.tell_latency(
            f"The last edit was on the slide after {self.follower.milliseconds:.0f} ms"
        )

    def _tell_preparing(self, done: int, total: int) -> None:
        self.change.tell_latency(f"Preparing the slide for edits, once: {done / total:.0%}")

    def _fail(self, words: str) -> None:
        self.problem.setText(words)
        self.problem.setVisible(bool(words))

    # show

    def _case(self) -> Case | None:
        """Return the pane's case; without one the record of nobody, if a model here reads one."""
        pane = self._pane
        if pane.case is not None or pane.model is None or pane.model.card.record is None:
            return pane.case
        schema = pane.model.card.record.clinical
        return Case("", schema, pane.record or schema.parse({}))

    def _show_case(self, _: object = None) -> None:
        if not isalive(self):
            return
        case, model = self._case(), self._pane.model
        read = None if model is None else model.card.record
        self.hint.setVisible(case is None)
        for part in (self.mode, self.form, self.undo_button, self.redo_button, self.own_button):
            part.setVisible(case is not None)
        self._fail(self._mismatch(case, read))
        if case is None:
            self.form.show_case(None, None)
            return
        self.mode.show_patient(case.patient, self._why_not(case))
        self._trail = Trail(self._pane.record or case.record)
        self.form.show_case(case, read)
        self.form.show_record(self._pane.record or case.record)
        if self._pane.case is None and self._pane.record is None:
            self._pane.case = case
            self._pane.record = case.record
        self._show_trail()

    def _mismatch(self, case: Case | None, read: RecordFormat | None) -> str:
        """Return in which fields the case's schema is not what the model reads."""
        if case is None or read is None:
            return ""
        try:
            read.check(case.schema)
        except RecordError as error:
            return str(error)
        return ""

    def _why_not(self, case: Case) -> str:
        """Return why a record cannot be corrected, empty if it can."""
        study = self._session.study
        if study is None or not case.patient:
            return "Only the record of a patient of an open study can be corrected"
        return study.read_only

    def _show_trail(self) -> None:
        allow(self.undo_button, not self._trail.first, "Nothing was edited", "Ctrl+Z")
        allow(self.redo_button, not self._trail.last, "Nothing was undone", "Ctrl+Shift+Z")
        allow(self.own_button, bool(self._changes()), "This is the patient's own record")
