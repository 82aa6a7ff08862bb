"""Correction: one edit of a patient's record that waits for its reason, or why it was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_wsimil.clinical.field import Absent
from napari_wsimil.gui.widgets.dock import allow

if TYPE_CHECKING:
    from napari_wsimil.clinical.field import Value

_HINT = "Correcting patients' records: double-click a value, type, and say why."
#: Why something else is not done while an edit waits.
HELD = "Save this correction first, or discard it"


class Correction(QFrame):
    """Emits patient, field, value and reason of an edit, once per edit, and whether one waits.

    One that waits stays until it is saved or discarded.
    """

    saved = Signal(str, str, object, str)
    waits = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit: tuple[str, str, Value] | None = None
        self._correcting = False
        self.words, self.problem = QLabel(), QLabel()
        self.problem.setStyleSheet("color: #d55e00")
        for label in (self.words, self.problem):
            label.setWordWrap(True)
        self.why = QLineEdit()
        self.why.setPlaceholderText("Why? (kept in the ledger)")
        self.save_button, self.discard_button = QPushButton("Save"), QPushButton("Discard")
        row = QHBoxLayout()
        row.addWidget(self.why, 1)
        row.addWidget(self.save_button)
        row.addWidget(self.discard_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.problem, self.words):
            column.addWidget(part)
        column.addLayout(row)
        self.why.textChanged.connect(self._show)
        self.why.returnPressed.connect(self._save)
        self.save_button.clicked.connect(self._save)
        self.discard_button.clicked.connect(self.discard)
        self._show()

    @property
    def waiting(self) -> bool:
        """Whether an edit waits for its reason."""
        return self._edit is not None

    def begin(self, correcting: bool) -> None:
        """Say that values can be corrected now, or not any more."""
        self._correcting = correcting
        self.refuse("")

    def ask(self, patient: str, field: str, value: Value) -> None:
        """Ask why a value is to be changed, unless another edit waits."""
        if self.waiting:
            self.refuse(HELD)
            return
        self._edit = patient, field, value
        self.why.clear()
        self.refuse("")
        self.why.setFocus()

    def refuse(self, why: str) -> None:
        """Say why something was not done; an edit that waits goes on waiting."""
        self.problem.setText(why)
        self._show()

    def discard(self) -> None:
        """Drop the edit that waits."""
        self._edit = None
        self.refuse("")

    def _save(self) -> None:
        why = self.why.text().strip()
        if self._edit is not None and why:
            edit, self._edit = self._edit, None
            self.refuse("")
            self.saved.emit(*edit, why)

    def _show(self, _: str = "") -> None:
        if self._edit is not None:
            patient, field, value = self._edit
            text = value.value if isinstance(value, Absent) else _shown(value)
            self.words.setText(f"<b>{patient}</b>: {field} becomes <b>{text}</b>")
        else:
            self.words.setText(_HINT)
        self.words.setVisible(self._correcting or self.waiting)
        self.problem.setVisible(bool(self.problem.text()))
        for part in (self.why, self.save_button, self.discard_button):
            part.setVisible(self._edit is not None)
        allow(self.save_button, bool(self.why.text().strip()), "Say why first", "Saved at once")
        self.setVisible(self._correcting or self.waiting or bool(self.problem.text()))
        self.waits.emit(self.waiting)


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
