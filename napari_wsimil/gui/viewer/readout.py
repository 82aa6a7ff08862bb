"""Readout: position, patch, value and rank under the cursor; knows no Qt and no viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.explain.statistics import ranks
from napari_wsimil.gui.text import numbered, unseen, value_words
from napari_wsimil.gui.viewer.cells import cells_beside, main_map
from napari_wsimil.gui.viewer.picking import Lookups

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.explain.color_scale import Scale, Stretch
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.gui.pane import Pane
    from napari_wsimil.gui.session import Session
    from napari_wsimil.gui.view_state import Cursor, Display
    from napari_wsimil.gui.viewer.cells import Cell
    from napari_wsimil.slides.slide import Slide

    Shown = tuple[int, Stretch]


class Readout:
    """Describes the place under the cursor.

    Values and ranks are computed once per map, so that a move of the mouse only looks them up.

    Parameters
    ----------
    session
        Its panes hold the cursor, the slide and the maps.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.lookups = Lookups()
        self._maps: WeakKeyDictionary[Prediction, dict[Shown, tuple[Scale, Tensor]]]
        self._maps = WeakKeyDictionary()

    def text(self) -> str:
        """Return the words for the cursor; empty while it is on no canvas."""
        cursor = self._session.pane.view_state.cursor
        return "" if cursor is None else self.describe(cursor)

    def describe(self, cursor: Cursor) -> str:
        """Return position, patch, and value and rank in the map under the cursor.

        The other maps in view follow.
        """
        pane = self._session.pane
        if pane.slide is None:
            return ""
        return " · ".join([_position(pane, pane.slide, cursor), *self._patch(pane, cursor)])

    def _patch(self, pane: Pane, cursor: Cursor) -> list[str]:
        """Return number, values and ranks of the patch, or the reason why there is none."""
        grid = pane.places
        if grid is None:
            return _no_patch(pane, cursor)
        beside = cells_beside(self._session)
        cell = cursor.cell if cursor.cell is not None and cursor.cell < len(beside) else None
        first = main_map(pane) if cell is None else [beside.pop(cell)]
        others = beside if cell is None else [*main_map(pane), *beside]
        if not first:
            patch = self.lookups.of(grid).at(cursor.x, cursor.y)
            return _no_patch(pane, cursor) if patch is None else [numbered(patch, len(grid))]
        words = self._value(*first[0], cursor)
        old = ["out of date"] if words and pane.prediction_state.stale else []
        return [*(words or _no_patch(pane, cursor)), *old, *self._beside(first[0], others, cursor)]

    def _beside(self, first: Cell, others: list[Cell], cursor: Cursor) -> list[str]:
        """Return the values in the other maps; the patch is named where it is another."""
        _, shown, _ = first
        words = [
            value[1:] if other.bag.grid is shown.bag.grid else value
            for slide, other, display in others
            for value in [self._value(slide, other, display, cursor)]
        ]
        return [f"beside: {' · '.join(part)}" for part in words if part]

    def _value(
        self, _: Slide, prediction: Prediction, display: Display, cursor: Cursor
    ) -> list[str]:
        """Return number, value and rank of the patch in one map; empty where no patch is."""
        grid = prediction.bag.grid
        patch = None if grid is None else self.lookups.of(grid).at(cursor.x, cursor.y)
        if patch is None:
            return []
        scale, numbers = self._scaled(prediction, display)
        place = 1 + int((numbers > numbers[patch]).sum())
        words = [numbered(patch, len(prediction.bag)), value_words(scale, patch, place)]
        return [*words, *unseen(prediction, prediction.explanations[display.map_index], patch)]

    def _scaled(self, prediction: Prediction, display: Display) -> tuple[Scale, Tensor]:
        """Return values and rank numbers of a map, computed at its first use."""
        maps, key = self._maps.setdefault(prediction, {}), (display.map_index, display.stretch)
        if key not in maps:
            numbers = ranks(prediction.explanations[display.map_index])
            maps[key] = scaled(prediction, *key), numbers
        return maps[key]


def _position(pane: Pane, slide: Slide, cursor: Cursor) -> str:
    """Return the position in µm; in level-0 pixels where their size is unknown."""
    if pane.places is not None and pane.places.made_up:
        return "place unknown"
    mpp = slide.resolution.mpp
    x, y = (round(side * (mpp or 1.0)) for side in (cursor.x, cursor.y))
    if mpp is None:
        return f"x {x:,} px, y {y:,} px of level 0 (pixel size unknown)"
    return f"x {x:,} µm, y {y:,} µm"


def _no_patch(pane: Pane, cursor: Cursor) -> list[str]:
    """Return the reason why no patch is under the cursor; empty while none could be."""
    if pane.slide is not None:
        width, height = pane.slide.dimensions
        if not (-0.5 <= cursor.x < width - 0.5 and -0.5 <= cursor.y < height - 0.5):
            return ["outside the slide"]
    patches = pane.places is not None
    if pane.tissue is None:
        return ["no patch here"] if patches else []
    place = np.floor([[cursor.x + 0.5, cursor.y + 0.5]]).astype(np.int64)
    if pane.tissue.share(place, 1)[0] < 0.5:
        return ["outside the tissue"]
    return ["tissue outside the patches" if patches else "tissue"]
