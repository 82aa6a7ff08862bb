"""ReviewRow: a person's verdict on what a model said of the case that is shown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsimil.explain.predict import PatientPrediction
from napari_wsimil.gui.widgets.background import Writer
from napari_wsimil.gui.widgets.dock import allow
from napari_wsimil.study.predictions import Answer, Review, Verdict
from napari_wsimil.workflows.save_predictions import Subject, keep_answer

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.workflows.study import Case

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
        self._writer = Writer(self)
        self._writer.failed.connect(self.failed)
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
        session.events.kept.connect(self._take)
        self._pane.events.case.connect(self._show_case)
        self._pane.events.model.connect(self._forget)
        self._pane.events.record.connect(self._refresh)
        self._show_case(self._pane.case)

    @property
    def busy(self) -> bool:
        """Whether something is still being written or read."""
        return self._writer.busy

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
        self._writer.write(work, partial(setattr, self._session, "kept"))

    def _take(self, kept: Answer | Review) -> None:
        case = self._pane.case
        if not isalive(self) or case is None or kept.patient != case.patient:
            return
        if isinstance(kept, Answer):
            self._answer = kept
        else:
            self._tell(kept)
        self._refresh()

    def _show_case(self, case: Case | None) -> None:
        """Tell the last review of a case, and forget an answer of another patient or record."""
        if not isalive(self):
            return
        answer, study = self._answer, self._session.study
        if answer is not None and (case is None or not _is_of(answer, case)):
            self._answer = None
        self._choose_none()
        self._tell(None)
        if study is not None and case is not None and case.patient:
            self._writer.write(partial(study.reviews.read, case.patient), self._tell_last)
        self._refresh()

    def _forget(self, _: object) -> None:
        if isalive(self):
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
        if not isalive(self):
            return
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


class AnswerKeeper(QObject):
    """Writes whole answers about a case of the open study, in the background.

    They are under the patient's own record: what is said of one that is tried on is passed
    over, and so is what was written last. While a field is edited nothing is written at all.
    """

    failed = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._last: tuple[Prediction, Case] | None = None
        self._writer = Writer(self)
        self._writer.failed.connect(self._fail)
        self._pane.events.answer.connect(self._take)

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return self._writer.busy

    def keep(self, found: Prediction | PatientPrediction) -> None:
        """Keep an answer about the pane's case, if it is one of its study as it is recorded."""
        case, study = self._pane.case, self._session.study
        if case is None or study is None or study.read_only or not is_own(found, case):
            return
        subject = Subject(case.patient, self._pane.called, case.record.digest())
        self._writer.write(partial(keep_answer, study, found, subject), self._show)

    def _take(self, answer: Prediction | None) -> None:
        case = self._pane.case
        if not isalive(self):
            return
        if answer is None:
            self._last = None
        elif case is not None and is_own(answer, case) and not self._is_last(answer, case):
            self._last = answer, case
            self.keep(answer)

    def _is_last(self, answer: Prediction, case: Case) -> bool:
        if self._last is None:
            return False
        last, of = self._last
        same = last.card is answer.card and last.bag.features is answer.bag.features
        return same and of.patient == case.patient and of.record == case.record

    def _show(self, kept: tuple[Answer, ...]) -> None:
        for answer in kept:
            self._session.kept = answer

    def _fail(self, words: str) -> None:
        self._last = None
        self.failed.emit(words)


def is_own(found: Prediction | PatientPrediction, case: Case) -> bool:
    """Return whether a model was asked about a case as the study has it, not about a what-if."""
    first = found.slides[0] if isinstance(found, PatientPrediction) else found
    return bool(case.patient) and (first.card.record is None or first.record == case.record)
