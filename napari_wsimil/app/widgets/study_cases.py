"""CaseOpener: a patient of a study becomes the case of a pane, with a slide and features."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_wsimil.app.study_work import case_of

if TYPE_CHECKING:
    from napari_wsimil.app.session import Session
    from napari_wsimil.study.manifest import Manifest, Patient, SlideRow


class CaseOpener(QObject):
    """Asks for cases to be shown with their files, and says what is not there.

    `wanted` gives the slide and the case; a case without files is shown at once.
    """

    wanted = Signal(object, object)
    told = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self.manifest: Manifest | None = None

    def patient(self, name: str) -> Patient | None:
        """Return a patient of the study, None if there is none of that name."""
        patients = self.manifest.patients if self.manifest is not None else ()
        return next((patient for patient in patients if patient.name == name), None)

    def open(self, name: str, slide: str = "") -> None:
        """Show a patient with a slide, or the first one."""
        study, patient = self._session.study, self.patient(name)
        if study is None or patient is None or self.manifest is None:
            return
        if not self._pane.may_leave():
            return
        row = next((one for one in patient.slides if slide in ("", one.slide)), None)
        self.told.emit(_lack(name, row))
        if row is not None and _has_files(row):
            self.wanted.emit(_there(row), case_of(study, self.manifest, name))
        else:
            self._pane.show_slide(None)
            self.show(name)

    def show(self, name: str) -> None:
        """Show a patient as the case of the slide that is shown, as the study has them now."""
        study = self._session.study
        if study is not None and self.manifest is not None and self._pane.may_leave():
            self._pane.show_case(case_of(study, self.manifest, name))

    def renew(self) -> None:
        """Show the case again if its record or its fields are not what they were."""
        case, study = self._pane.case, self._session.study
        if case is None or study is None or self.patient(case.patient) is None:
            return
        held = study.records.read(case.patient)
        if held.version != case.version or study.schema != case.schema:
            self.show(case.patient)


def _has_files(row: SlideRow) -> bool:
    return any(path is not None and path.exists() for path in (row.slide_path, row.feature_path))


def _there(row: SlideRow) -> SlideRow:
    """Return a slide without the files that are not where the study says."""
    image, data = row.slide_path, row.feature_path
    return replace(
        row,
        slide_path=image if image is not None and image.exists() else None,
        feature_path=data if data is not None and data.exists() else None,
    )


def _lack(name: str, row: SlideRow | None) -> str:
    """Return what is not there of a slide, empty if all is."""
    if row is None:
        return f"{name} has no slide: the record is shown alone."
    places = {"image": row.slide_path, "features file": row.feature_path}
    gone = [what for what, path in places.items() if path is not None and not path.exists()]
    if gone:
        return f"{row.slide}: {' and '.join(gone)} not where the study says. Has a folder moved?"
    return "" if _has_files(row) else f"{row.slide} has no files: the record is shown alone."
