"""PredictionSaver: saves complete predictions in the open study; knows no Qt."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_wsimil.explain.predict import PatientPrediction
from napari_wsimil.workflows.save_predictions import Subject, keep_answer

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.session import Session
    from napari_wsimil.study.case import Case
    from napari_wsimil.study.predictions import Answer


class PredictionSaver:
    """Saves complete predictions of a case in the open study, through its write queue.

    A prediction is saved if it is under the patient's own record and differs from the one
    saved last; predictions of what-if edits are not saved, nor are those of a field that is
    still being edited. `failed` emits the reason why a prediction was not saved.
    """

    failed = Signal(str)

    def __init__(self, session: Session) -> None:
        self._session, self._pane = session, session.pane
        self._last: tuple[Prediction, Case] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        return self._session.writes.busy

    def save(self, prediction: Prediction | PatientPrediction) -> None:
        """Save a prediction of the pane's case, if it is under the record of its study."""
        case, study = self._pane.case, self._session.study
        if case is None or study is None or study.read_only or not is_own(prediction, case):
            return
        subject = Subject(case.patient, self._pane.slide_state.called, case.record.digest())
        work = partial(keep_answer, study, prediction, subject)
        self._session.writes.submit(work, self._announce, self._fail)

    def take(self, prediction: Prediction | None) -> None:
        """Save a complete prediction of the pane, once."""
        case = self._pane.case
        if prediction is None:
            self._last = None
        elif case is not None and is_own(prediction, case) and not self._is_last(prediction, case):
            self._last = prediction, case
            self.save(prediction)

    def _is_last(self, prediction: Prediction, case: Case) -> bool:
        if self._last is None:
            return False
        last, of = self._last
        same = last.card is prediction.card and last.bag.features is prediction.bag.features
        return same and of.patient == case.patient and of.record == case.record

    def _announce(self, saved: tuple[Answer, ...]) -> None:
        for one in saved:
            self._session.kept = one

    def _fail(self, words: str) -> None:
        self._last = None
        self.failed.emit(words)


def is_own(found: Prediction | PatientPrediction, case: Case) -> bool:
    """Return whether a model was asked about a case as the study has it, not about a what-if."""
    first = found.slides[0] if isinstance(found, PatientPrediction) else found
    return bool(case.patient) and (first.card.record is None or first.record == case.record)
