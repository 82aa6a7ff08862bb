"""The docks as napari.yaml names them: each widget with the session of its viewer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QMainWindow, QWidget

from napari_wsimil.gui.docks.compare.dock import BesideWidget
from napari_wsimil.gui.docks.explain.dock import ExplainWidget
from napari_wsimil.gui.docks.record.dock import RecordWidget
from napari_wsimil.gui.docks.slide.dock import SlideWidget
from napari_wsimil.gui.docks.study.dock import StudyWidget
from napari_wsimil.gui.docks.train.dock import TrainWidget
from napari_wsimil.gui.notices import hide_names
from napari_wsimil.gui.session import Session
from napari_wsimil.gui.viewer.guards import guard_conversions, guard_figures
from napari_wsimil.gui.viewer.overview import Overview
from napari_wsimil.gui.viewer.presenter import Presenter
from napari_wsimil.gui.widgets.background import TaskQueue
from napari_wsimil.gui.widgets.readout import ReadoutBar, show_readout

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer

    from napari_wsimil.cohort.manifest import SlideRow
    from napari_wsimil.study.case import Case


def presenter_of(viewer: Viewer) -> Presenter:
    """Return the presenter of a viewer, made at the first call; it lives as long as the window."""
    return _desk(viewer).presenter


def session_of(viewer: Viewer) -> Session:
    """Return the session of a viewer, made with its presenter."""
    return _desk(viewer).session


class _Desk:
    """What the docks of one viewer share."""

    def __init__(self, viewer: Viewer) -> None:
        self.session = Session(writes=TaskQueue())
        self.presenter = Presenter(viewer, self.session)
        self.has_beside = False
        self._viewer = viewer
        self._overview: Overview | None = None
        self.readout: ReadoutBar | None = None
        self.session.pane.view_state.events.side.connect(self._offer_beside)
        compared = self.session.beside.prediction_state.events.prediction
        compared.connect(self._offer_beside)
        hide_names()
        guard_figures(viewer)
        guard_conversions(viewer)

    def _offer_beside(self, wanted: object) -> None:
        """Open the canvas beside the main one at its first use, where no dock has it yet."""
        if wanted and not self.has_beside:
            dock = BesideDock(self._viewer)
            self._viewer.window.add_dock_widget(dock, name="Compare", area="bottom")

    def furnish(self, window: QWidget) -> None:
        """Add overview and read-out to a window, once a dock is shown in it."""
        if isinstance(window, QMainWindow) and self.readout is None:
            self._overview = Overview(self.session.pane, window.centralWidget())
            self.readout = show_readout(window, self.session, self.presenter.readout)


def _desk(viewer: Viewer) -> _Desk:
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    if not hasattr(viewer.window, "wsimil_desk"):
        viewer.window.wsimil_desk = _Desk(viewer)
    desk: _Desk = viewer.window.wsimil_desk
    return desk


class SlideDock(SlideWidget):
    """The Slide dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        super().__init__(desk.session)
        self.docked.connect(desk.furnish)


class ExplainDock(ExplainWidget):
    """The Explain dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        super().__init__(desk.session)
        self.docked.connect(desk.furnish)
        self.slides.slide_wanted.connect(partial(_open_row, napari_viewer))


class RecordDock(RecordWidget):
    """The Record dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        super().__init__(desk.session)
        self.docked.connect(desk.furnish)


class BesideDock(BesideWidget):
    """The canvas beside that of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        desk.has_beside = True
        super().__init__(desk.session)


class StudyDock(StudyWidget):
    """The Study dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        super().__init__(desk.session)
        self.docked.connect(desk.furnish)
        self.case_wanted.connect(partial(_open_case, napari_viewer))


class TrainDock(TrainWidget):
    """The Train dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        desk = _desk(napari_viewer)
        super().__init__(desk.session)
        self.docked.connect(desk.furnish)
        self.slide_wanted.connect(partial(_open, napari_viewer))


def _open_row(viewer: Viewer, row: SlideRow) -> None:
    """Open another slide of the patient who is shown, if the viewer has a Slide dock."""
    dock = _slide_dock(viewer)
    if dock is not None:
        dock.open_row(row, session_of(viewer).pane.case)


def _open_case(viewer: Viewer, row: SlideRow, case: Case) -> None:
    """Open a slide of a study in the Slide dock, which is added where the viewer has none."""
    dock = _slide_dock(viewer)
    if dock is None:
        dock = SlideDock(viewer)
        viewer.window.add_dock_widget(dock, name="Slide", area="right", tabify=True)
    dock.open_row(row, case)


def _slide_dock(viewer: Viewer) -> SlideDock | None:
    docks = (one for one in viewer.window.dock_widgets.values() if isinstance(one, SlideDock))
    return next(docks, None)


def _open(viewer: Viewer, path: Path) -> None:
    """Open a slide in the Slide dock if the viewer has one, else as napari opens any file."""
    dock = _slide_dock(viewer)
    if dock is None:
        viewer.open(path, plugin="napari-wsimil")
    else:
        dock.open(path)
        dock.come_forward()
