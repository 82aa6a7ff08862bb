"""The docks as napari.yaml names them: each widget with the session of its viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.app.guards import guard_conversions, guard_figures
from napari_wsimil.app.presenter import Presenter
from napari_wsimil.app.session import Session
from napari_wsimil.app.widgets.explain import ExplainWidget
from napari_wsimil.app.widgets.slide import SlideWidget

if TYPE_CHECKING:
    from napari import Viewer


def presenter_of(viewer: Viewer) -> Presenter:
    """Return the presenter of a viewer, made at the first call; it lives as long as the window."""
    return _desk(viewer).presenter


def session_of(viewer: Viewer) -> Session:
    """Return the session of a viewer, made with its presenter."""
    return _desk(viewer).session


@dataclass(frozen=True, eq=False)
class _Desk:
    """What the docks of one viewer share."""

    session: Session
    presenter: Presenter


def _desk(viewer: Viewer) -> _Desk:
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    if not hasattr(viewer.window, "wsimil_desk"):
        session = Session()
        viewer.window.wsimil_desk = _Desk(session, Presenter(viewer, session.pane))
        guard_figures(viewer)
        guard_conversions(viewer)
    desk: _Desk = viewer.window.wsimil_desk
    return desk


class SlideDock(SlideWidget):
    """The Slide dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(session_of(napari_viewer))


class ExplainDock(ExplainWidget):
    """The Explain dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(session_of(napari_viewer))
