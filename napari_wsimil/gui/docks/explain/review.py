"""ReviewRow: a person's verdict on what a model said of the case that is shown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.gui.widgets.dock import allow, listen, while_alive
from napari_wsimil.study.predictions import Answer, Review, Verdict

if TYPE_CHECKING:
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.case import Case

_TRIED = "What is shown is tried on: go back to the record as it is"

_NOT_KEPT = "The study keeps no such answer (yet): of several slides, ask of all in the tab Slides"

_LONG = 160  # letters of the last review that are shown

_DOES = "Kept in the study with your name, beside what the model said; asked why first"


class ReviewRow(QWidget):
    """Adds reviews of the last answer that the study keeps of the pane's case."""

    failed = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._answer: Answer | None = None
        self.said, self.last = QLabel(), QLabel()
        for label in (self.said, self.last):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
        self.why = QLineEdit()
        self.why.setPlaceholderText("Why? (kept in the ledger)")
        self.save_button = QPushButton("Save")
        self.buttons = {verdict: QPushButton(verdict.value.capitalize()) for verdict in Verdict}
        self._build()
        self.save_button.clicked.connect(self.save)
        self.why.returnPressed.connect(self.save)
        listen(self, self._take, session.events.kept)
        listen(self, self._show_case, self._pane.record_state.events.case)
        listen(self, self._forget, self._pane.prediction_state.events.model)
        listen(self, self._refresh, self._pane.record_state.events.record)
        self._show_case(self._pane.case)

    @property
    def busy(self) -> bool:
        """Whether something is still being written or read."""
        return self._session.writes.busy

    def _build(self) -> None:
        self._group = QButtonGroup(self)
        row, saving = QHBoxLayout(), QHBoxLayout()
        row.addWidget(self.said, 1)
        for button in self.buttons.values():
            button.setCheckable(True)
            button.setFlat(True)
            self._group.addButton(button)
            row.addWidget(button)
        self._group.buttonClicked.connect(lambda _: self._refresh())
        saving.addWidget(self.why, 1)
        saving.addWidget(self.save_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addLayout(saving)
        column.addWidget(self.last)

    # act

    def save(self) -> None:
        """Add the verdict that is chosen, in the background."""
        study, verdict = self._session.study, self._verdict
        if study is None or verdict is None or self._answer is None:
            return
        work = partial(study.reviews.add, self._answer, verdict, self.why.text().strip())
        self._choose_none()
        self._session.writes.submit(
            work, partial(setattr, self._session, "kept"), while_alive(self, self.failed.emit)
        )

    def _take(self, kept: Answer | Review) -> None:
        case = self._pane.case
        if case is None or kept.patient != case.patient:
            return
        if isinstance(kept, Answer):
            self._answer = kept
        else:
            self._tell(kept)
        self._refresh()

    def _show_case(self, case: Case | None) -> None:
        """Tell the last review of a case, and forget an answer of another patient or record."""
        answer, study = self._answer, self._session.study
        if answer is not None and (case is None or not _is_of(answer, case)):
            self._answer = None
        self._choose_none()
        self._tell(None)
        if study is not None and case is not None and case.patient:
            read = partial(study.reviews.read, case.patient)
            self._session.writes.submit(
                read, while_alive(self, self._tell_last), while_alive(self, self.failed.emit)
            )
        self._refresh()

    def _forget(self, _: object) -> None:
        self._answer = None
        self._choose_none()
        self._refresh()

    # show

    @property
    def _verdict(self) -> Verdict | None:
        return next((v for v, button in self.buttons.items() if button.isChecked()), None)

    def _choose_none(self) -> None:
        self.why.clear()
        self._group.setExclusive(False)
        for button in self.buttons.values():
            button.setChecked(False)
        self._group.setExclusive(True)
        self._refresh()

    def _tell_last(self, reviews: tuple[Review, ...]) -> None:
        case = self._pane.case
        if reviews and case is not None and reviews[-1].patient == case.patient:
            self._tell(reviews[-1])

    def _tell(self, review: Review | None) -> None:
        self.last.setVisible(review is not None)
        if review is not None:
            when = review.when.astimezone().strftime("%Y-%m-%d %H:%M")
            words = f"{review.who}, {when}, of {review.said}: {review.words}"
            self.last.setText(words if len(words) <= _LONG else f"{words[:_LONG]}…")
            self.last.setToolTip(words)

    def _refresh(self, _: object = None) -> None:
        case, study = self._pane.case, self._session.study
        self.setVisible(study is not None and case is not None and bool(case.patient))
        if study is None or case is None:
            return
        why = study.read_only or (_TRIED if self._pane.record != case.record else "")
        why = why or ("" if self._answer is not None else _NOT_KEPT)
        for button in self.buttons.values():
            allow(button, not why, why, _DOES)
        asked = not why and self._verdict is not None
        on = "" if self._answer is None else f" on {self._answer.words}"
        self.said.setText(f"Verdict{on}")
        for part in (self.why, self.save_button):
            part.setVisible(asked)


def _is_of(answer: Answer, case: Case) -> bool:
    return answer.patient == case.patient and answer.record in ("", case.record.digest())
