"""FieldRow: one field of a record, to be edited, with what is to be said of its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.clinical.field import Absent, Kind
from napari_wsimil.gui.docks.record.number_slider import NumberEdit
from napari_wsimil.gui.widgets.dock import narrow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_wsimil.clinical.field import Field, Value

_WRONG, _ODD = "#d55e00", "#e69f00"


class FieldRow(QWidget):
    """Emits its field's name with a text, as it is edited; and when an edit is at rest.

    Parameters
    ----------
    field
        Which.
    known
        The cohort's numbers of it.
    """

    edited = Signal(str, str)
    rested = Signal()

    def __init__(self, field: Field, known: NDArray[np.float64]) -> None:
        super().__init__()
        self.field = field
        self._own: Value = Absent.MISSING
        self.name = QLabel()
        self.name.setTextFormat(Qt.TextFormat.RichText)
        self.name.setToolTip(_tip(field))
        self.name.setWordWrap(True)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.hide()
        self.number = NumberEdit(field, known) if field.kind is Kind.NUMBER else None
        self.choice = None if self.number is not None else self._build_choice()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 2)
        column.setSpacing(0)
        column.addLayout(self._build_line())
        if self.number is not None:
            column.addWidget(self.number)
        column.addWidget(self.words)

    def show_value(self, value: Value, own: Value, said: str = "") -> None:
        """Show a value, the patient's own beside it where it differs, and what is odd about it."""
        self._own = own
        changed = value != own
        name = f"<b>{self.field.name}</b>" if changed else self.field.name
        unit = f" <small>{self.field.unit}</small>" if self.field.unit else ""
        was = f" <small style='color:{_ODD}'>was {self._text(own)}</small>" if changed else ""
        self.name.setText(f"{name}{unit}{was}")
        if self.number is not None:
            self.number.show_value(value, own)
        else:
            self._show_choice(value)
        self.tell(said)

    def tell(self, said: str, wrong: bool = False) -> None:
        """Say something about the value under it; nothing takes the words away."""
        self.words.setText(said)
        self.words.setStyleSheet(f"color: {_WRONG if wrong else _ODD}")
        self.words.setVisible(bool(said))

    # build

    def _build_line(self) -> QHBoxLayout:
        line = QHBoxLayout()
        line.addWidget(self.name, 1)
        if self.number is not None:
            line.addWidget(self.number.text)
            self.number.edited.connect(self._emit)
            self.number.rested.connect(self.rested)
        if self.choice is not None:
            line.addWidget(self.choice)
        line.addWidget(self._build_more())
        return line

    def _build_choice(self) -> QComboBox | QLineEdit:
        if self.field.kind is Kind.DATE:
            day = QLineEdit()
            day.setFixedWidth(110)
            day.editingFinished.connect(lambda: self._take_day(day))
            return day
        box = QComboBox()
        narrow(box)
        box.setFixedWidth(150)
        values = ("yes", "no") if self.field.kind is Kind.BOOLEAN else self.field.values
        for value in values:
            box.addItem(value, value)
        box.insertSeparator(box.count())
        for absent in Absent:
            box.addItem(f"({absent.value})", absent.value)
        box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        box.wheelEvent = lambda event: event.ignore()  # scrolling the form changes no record
        box.activated.connect(lambda at: self._set(box.itemData(at)))
        return box

    def _build_more(self) -> QToolButton:
        more = QToolButton()
        more.setText("⋯")
        more.setToolTip("Missing, unknown, not applicable, or the patient's own value")
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(more)
        for absent in Absent:
            menu.addAction(absent.value.capitalize()).triggered.connect(
                lambda _=False, text=absent.value: self._set(text)
            )
        menu.addSeparator()
        own = menu.addAction("The patient's own value")
        own.triggered.connect(lambda: self._set(self._text(self._own)))
        more.setMenu(menu)
        self.more = more
        return more

    # act

    def _set(self, text: str) -> None:
        self._emit(text)
        self.rested.emit()

    def _take_day(self, day: QLineEdit) -> None:
        if day.isModified():
            day.setModified(False)
            self._set(day.text())

    def _emit(self, text: str) -> None:
        self.edited.emit(self.field.name, text)

    def _text(self, value: Value) -> str:
        return value.value if isinstance(value, Absent) else self.field.format(value)

    def _show_choice(self, value: Value) -> None:
        if isinstance(self.choice, QComboBox):
            self.choice.setCurrentIndex(self.choice.findData(self._text(value)))
        elif self.choice is not None:
            self.choice.setText(self._text(value))


def _tip(field: Field) -> str:
    limits = (
        ("possible", field.hard),
        ("plausible", field.plausible),
        ("normal", field.normal),
    )
    ranges = [f"{word} {pair[0]:g} to {pair[1]:g} {field.unit}" for word, pair in limits if pair]
    return "\n".join(filter(None, (field.description, *ranges)))
