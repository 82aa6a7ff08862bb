"""CaseOpener: a patient of a study becomes the case of a pane, with a slide and features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from napari_wsimil.app.study_work import case_of

if TYPE_CHECKING:
    from napari_wsimil.app.session import Session
    from napari_wsimil.study.manifest import Manifest, Patient, SlideRow


class CaseOpener(QObject):
    """Shows cases; asks for their files to be opened, and says what is not there.

    A case is shown once its slide is: a slide that is opened forgets the case before it.
    """

    slide_wanted = Signal(Path)
    features_wanted = Signal(Path)
    told = Signal(str)

    def __init__(self, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._pane = session, session.pane
        self._awaited: tuple[str, SlideRow] | None = None
        self.manifest: Manifest | None = None
        self._pane.events.slide.connect(self._arrive)

    def patient(self, name: str) -> Patient | None:
        """Return a patient of the study, None if there is none of that name."""
        patients = self.manifest.patients if self.manifest is not None else ()
        return next((patient for patient in patients if patient.name == name), None)

    def open(self, name: str, slide: str = "") -> None:
        """Show a patient with a slide, or the first one."""
        patient = self.patient(name)
        slides = () if patient is None else patient.slides
        row = next((one for one in slides if slide in ("", one.slide)), None)
        self.told.emit("" if row is not None else f"{name} has no slide: the record is shown alone")
        self._awaited = None
        if row is not None and row.slide_path is not None and row.slide_path.exists():
            self._open_slide(name, row)
        else:
            self._open_without(name, row)

    def show(self, name: str) -> None:
        """Show a patient as the case, as the study has them now."""
        if self._session.study is not None and self.manifest is not None:
            self._pane.show_case(case_of(self._session.study, self.manifest, name))

    def forget(self) -> None:
        """Show no case any more, and wait for none."""
        self._awaited = None
        self._pane.show_case(None)

    def _open_slide(self, name: str, row: SlideRow) -> None:
        self._awaited = name, row
        if self._pane.slide is not None and self._pane.slide.path == row.slide_path:
            self._arrive(None)
        elif row.slide_path is not None:
            self.slide_wanted.emit(row.slide_path)

    def _open_without(self, name: str, row: SlideRow | None) -> None:
        """Show a patient whose slide is not there: the features alone, or the record alone."""
        if row is not None and row.slide_path is not None:
            where = "its file is not where the study says"
            self.told.emit(f"slide {row.slide} of {name}: {where}")
        self._pane.show_slide(None)
        self.show(name)
        if row is not None and row.feature_path is not None and row.feature_path.exists():
            self._awaited = name, row
            self.features_wanted.emit(row.feature_path)

    def _arrive(self, _: object) -> None:
        """Show the case whose slide was opened, then ask for its features."""
        slide = self._pane.slide
        if not isalive(self) or self._awaited is None or slide is None:
            return
        name, row = self._awaited
        alone = row.slide_path is None or not row.slide_path.exists()
        if not alone and slide.path != row.slide_path:
            return
        self._awaited = None
        self.show(name)
        if not alone and row.feature_path is not None and row.feature_path.exists():
            wanted = row.feature_path
            QTimer.singleShot(0, lambda: self.features_wanted.emit(wanted))
