"""AnswerKeeper: what a model says of a case becomes a prediction of its study."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_wsimil.app.widgets.writer import Writer
from napari_wsimil.explain.predict import PatientPrediction
from napari_wsimil.workflows.save_predictions import Subject, keep_answer

if TYPE_CHECKING:
    from napari_wsimil.app.case import Case
    from napari_wsimil.app.session import Session
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.study.predictions import Answer


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
