"""The docks as napari.yaml names them: each widget with the session of its viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_wsimil.app.presenter import Presenter
from napari_wsimil.app.session import Session
from napari_wsimil.app.widgets.explain import ExplainWidget
from napari_wsimil.app.widgets.slide import SlideWidget

if TYPE_CHECKING:
    from napari import Viewer

_presenters: WeakKeyDictionary[Viewer, Presenter] = WeakKeyDictionary()


def presenter_of(viewer: Viewer) -> Presenter:
    """Return the presenter of a viewer, made at the first call."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    if viewer not in _presenters:
        _presenters[viewer] = Presenter(viewer, Session())
    return _presenters[viewer]


class SlideDock(SlideWidget):
    """The Slide dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(presenter_of(napari_viewer).session)


class ExplainDock(ExplainWidget):
    """The Explain dock of a viewer."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(presenter_of(napari_viewer).session)
