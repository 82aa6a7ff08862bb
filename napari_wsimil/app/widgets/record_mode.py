"""RecordMode: whether edits are tried on, which is the default, or correct the patient's record."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.app.widgets.docked import allow

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
