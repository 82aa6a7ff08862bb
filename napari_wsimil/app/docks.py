"""The docks as napari.yaml names them: each widget with the session of its viewer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_wsimil.app.presenter import Presenter
from napari_wsimil.app.session import Session
from napari_wsimil.app.widgets.explain import ExplainWidget
from napari_wsimil.app.widgets.slide import SlideWidget
from napari_wsimil.app.widgets.train import TrainWidget

if TYPE_CHECKING:
    from pathlib import Path

    from napari import Viewer


def presenter_of(viewer: Viewer) -> Presenter:
    """Return the presenter of a viewer, made at the first call; it lives as long as the window."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    if not hasattr(viewer.window, "wsimil_presenter"):
        viewer.window.wsimil_presenter = Presenter(viewer, Session())
    presenter: Presenter = viewer.window.wsimil_presenter
    return presenter


class SlideDock(SlideWidget):
    """The Slide dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(presenter_of(napari_viewer).session)


class ExplainDock(ExplainWidget):
    """The Explain dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(presenter_of(napari_viewer).session)


class TrainDock(TrainWidget):
    """The Train dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(presenter_of(napari_viewer).session)
        self.slide_wanted.connect(partial(_open, napari_viewer))


def _open(viewer: Viewer, path: Path) -> None:
    """Open a slide in the Slide dock if the viewer has one, else as napari opens any file."""
    docks = (one for one in viewer.window.dock_widgets.values() if isinstance(one, SlideDock))
    dock = next(docks, None)
    if dock is None:
        viewer.open(path, plugin="napari-wsimil")
    else:
        dock.open(path)
        dock.come_forward()
