"""UnsavedDialog: what becomes of a correction that is typed and not saved."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout

from napari_wsimil.app.widgets.docked import allow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QWidget

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
        self.stay_button = QPushButton("Stay")
        self.stay_button.setDefault(True)
        self._lay_out()
        self.why.textChanged.connect(self._allow)
        self.save_button.clicked.connect(self._save)
        self.discard_button.clicked.connect(lambda: self.done(DISCARDED))
        self.stay_button.clicked.connect(self.reject)
        self._allow()

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
