"""RecordMode: whether edits are tried on, which is the default, or correct the patient's record."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.widgets.close_guard import CloseGuard
from napari_wsimil.gui.widgets.dock import allow, listen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

    from napari_wsimil.gui.docks.record.form import RecordForm
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.record_saver import RecordSaver


#: What the dialog returns where the correction is to be dropped.
DISCARDED = 2


class UnsavedDialog(QDialog):
    """Emits the reason for which a correction is to be saved; else it is discarded, or one stays.

    Parameters
    ----------
    patient
        Whose record is corrected.
    changes
        A sentence for each value.
    why
        The reason, as far as it is typed.
    why_not
        Why it cannot be saved as it is; empty if it can.
    """

    saved = Signal(str)

    def __init__(
        self, patient: str, changes: Sequence[str], why: str, why_not: str, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._why_not, self._saving = why_not, False
        self.setWindowTitle("A correction is not saved")
        self.words = QLabel(
            f"The record of <b>{html.escape(patient)}</b> was corrected, and not saved yet:<br>"
            + "<br>".join(map(html.escape, changes))
        )
        self.problem = QLabel(why_not)
        self.problem.setStyleSheet("color: #d55e00")
        for label in (self.words, self.problem):
            label.setWordWrap(True)
        self.why = QLineEdit(why)
        self.why.setPlaceholderText("Why? (kept in the ledger)")
        self.save_button, self.discard_button = QPushButton("Save"), QPushButton("Discard")
        self.stay_button = QPushButton("Keep editing")
        self.stay_button.setDefault(True)
        self._lay_out()
        self.why.textChanged.connect(self._allow)
        self.save_button.clicked.connect(self._save)
        self.discard_button.clicked.connect(lambda: self.done(DISCARDED))
        self.stay_button.clicked.connect(self.reject)
        self._allow()

    def take_saved(self, _: object) -> None:
        """Close: the correction was saved."""
        self.accept()

    def refuse(self, words: str) -> None:
        """Say why it was not saved."""
        self._saving = False
        self.problem.setText(words)
        self._allow()

    def _lay_out(self) -> None:
        self.setMinimumWidth(440)
        row = QHBoxLayout()
        for button in (self.save_button, self.discard_button, self.stay_button):
            row.addWidget(button)
        column = QVBoxLayout(self)
        for part in (self.words, self.problem, self.why):
            column.addWidget(part)
        column.addLayout(row)

    def _save(self) -> None:
        self._saving = True
        self.problem.clear()
        self._allow()
        self.saved.emit(self.why.text().strip())

    def _allow(self, _: str = "") -> None:
        self.problem.setVisible(bool(self.problem.text()))
        held = self._why_not or ("It is being saved" if self._saving else "")
        said = bool(self.why.text().strip())
        allow(self.save_button, said and not held, held or "Say why first", "Saved at once")
        self.discard_button.setEnabled(not self._saving)


_TRY = "What if: nothing typed here changes the patient"

_CORRECT = "Correcting the patient's record: what is saved is theirs"

_STYLES = {
    False: "QFrame#mode { border: 1px solid #56b4e9; border-radius: 4px }",
    True: "QFrame#mode { border: 2px solid #d55e00; border-radius: 4px }",
}


class RecordMode(QFrame):
    """Emits which mode is chosen, and what a correction is saved for.

    Attributes
    ----------
    correcting
        Whether edits are to be saved.
    """

    switched = Signal(bool)
    saved = Signal(str)
    discarded = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("mode")
        self._name = self._why_not = ""
        self._wrong = False
        self.patient = QLabel()
        self.trying = QRadioButton("What if")
        self.trying.setChecked(True)
        self.correct = QRadioButton("Correct")
        self._modes = QButtonGroup(self)
        self._modes.addButton(self.trying)
        self._modes.addButton(self.correct)
        self.words = QLabel(_TRY)
        self.words.setWordWrap(True)
        self.why = QLineEdit()
        self.why.setPlaceholderText("Why? (kept in the ledger)")
        self.save_button = QPushButton("Save correction")
        self.discard_button = QPushButton("Discard")
        self._build()
        self.correct.toggled.connect(self._switch)
        self.why.textChanged.connect(self._allow)
        self.save_button.clicked.connect(lambda: self.saved.emit(self.why.text().strip()))
        self.discard_button.clicked.connect(self.discarded)
        self._switch(False)

    @property
    def correcting(self) -> bool:
        return bool(self.correct.isChecked())

    def show_patient(self, name: str, why_not: str) -> None:
        """Show whose record this is, and why it cannot be corrected if it cannot."""
        if name != self._name:
            self.why.clear()  # it was said of another patient
        self._name = name
        self.patient.setText(f"<b>{name}</b>" if name else "A record to try on")
        self._why_not = why_not
        if why_not:
            self.trying.setChecked(True)
        allow(self.correct, not why_not, why_not, "Edits change the patient's record, once saved")

    def allow_saving(self, changed: bool, wrong: bool) -> None:
        """Say whether there is anything to save, and whether a text is in the way of it."""
        self._changed, self._wrong = changed, wrong
        self._allow()

    def end(self) -> None:
        """Go back to trying on."""
        self.why.clear()
        self.trying.setChecked(True)

    def _build(self) -> None:
        modes = QHBoxLayout()
        modes.addWidget(self.patient, 1)
        modes.addWidget(self.trying)
        modes.addWidget(self.correct)
        saving = QHBoxLayout()
        saving.addWidget(self.save_button)
        saving.addWidget(self.discard_button)
        column = QVBoxLayout(self)
        column.addLayout(modes)
        column.addWidget(self.words)
        column.addWidget(self.why)
        column.addLayout(saving)

    def _switch(self, correcting: bool) -> None:
        self._changed = self._wrong = False
        self.words.setText(_CORRECT if correcting else _TRY)
        self.setStyleSheet(_STYLES[correcting])
        for part in (self.why, self.save_button, self.discard_button):
            part.setVisible(correcting)
        self._allow()
        self.switched.emit(correcting)

    def _allow(self, _: object = None) -> None:
        why = "Say why first" if self._changed else "Nothing is changed"
        allow(
            self.save_button, self._changed and bool(self.why.text().strip()), why, "Saved at once"
        )
        typed = self.correcting and (self._changed or self._wrong)
        allow(self.trying, not typed, "Save the correction first, or discard it", _TRY)


_WRONG = "A field contains an invalid value. Fix it or discard the correction."


class Unsaved(QObject):
    """Holds the pane's patient, and the window, while there is a correction to lose.

    Parameters
    ----------
    pane, form, mode
        Whose record is corrected, where it is typed, and whether it is corrected at all.
    saver
        Tells when a correction has been saved, or why it has not.

    Attributes
    ----------
    wanted
        Emits the reason for which the correction is to be saved.
    """

    wanted = Signal(str)

    def __init__(
        self, pane: Pane, form: RecordForm, mode: RecordMode, saver: RecordSaver, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self._pane, self._form, self._mode, self._saver = pane, form, mode, saver
        self._guard = CloseGuard(self.ask, parent)

    @property
    def there(self) -> bool:
        """Whether a correction is typed and not saved."""
        if not isalive(self) or not self._mode.correcting:
            return False
        return self._form.wrong or bool(self._pane.record_state.edits)

    def watch(self) -> None:
        """Hold the patient while there may be something to lose; called whenever that changes."""
        correcting = self._mode.correcting
        self._mode.allow_saving(bool(self._pane.record_state.edits), self._form.wrong)
        self._guard.watch(correcting)
        if correcting and self.ask not in self._pane.record_state.holds:
            self._pane.record_state.holds.append(self.ask)
        elif not correcting and self.ask in self._pane.record_state.holds:
            self._pane.record_state.holds.remove(self.ask)

    def ask(self) -> bool:
        """Return whether nothing would be lost, having asked to save or to discard what would."""
        if self._guard.is_late or not isalive(self):
            return True
        self._finish()
        case = self._pane.case
        if case is None or not self.there:
            return True
        why, why_not = self._mode.why.text(), _WRONG if self._form.wrong else ""
        window = self.parent().window()
        dialog = UnsavedDialog(case.patient, self._words(), why, why_not, window)
        if self._answer(dialog) == DISCARDED:
            self._mode.end()
        return not self.there

    def _finish(self) -> None:
        """Take what is being typed in a field as typed: it is not left yet."""
        field = QApplication.focusWidget()
        if field is not None and self._form.isAncestorOf(field):
            field.clearFocus()

    def _answer(self, dialog: UnsavedDialog) -> int:
        dialog.saved.connect(self.wanted)
        listen(dialog, dialog.take_saved, self._saver.saved)
        listen(dialog, dialog.refuse, self._saver.failed)
        try:
            return int(dialog.exec_())
        finally:
            dialog.deleteLater()

    def _words(self) -> list[str]:
        case = self._pane.case
        fields = {} if case is None else case.schema.by_name
        return [
            f"{name}: {fields[name].format(old) or 'missing'} becomes "
            f"{fields[name].format(new) or 'missing'}"
            for name, (old, new) in self._pane.record_state.edits.items()
        ]
