"""Cells: the maps beside the main canvas; knows no Qt and no viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.slides.slide import Slide

    Cell = tuple[Slide, Prediction, Display]


def cells_beside(session: Session) -> list[Cell]:
    """Return the maps beside the main canvas, from left to right."""
    return [*_sides(session.pane), *main_map(session.beside)]


def main_map(pane: Pane) -> list[Cell]:
    """Return the map that a pane shows; none if its patches have no places."""
    slide, shown = pane.slide, pane.shown
    if slide is None or shown is None or shown.bag.grid is None:
        return []
    return [(slide, shown, pane.display)]


def _sides(pane: Pane) -> list[Cell]:
    """Return the maps of a pane that lie beside, each as it would be shown alone."""
    return [
        (slide, shown, display.of(names.index(name)))
        for slide, shown, display in main_map(pane)
        for names in [[one.name for one in shown.explanations]]
        for name in pane.view_state.side
        if name in names
    ]
