"""The window shows a mark in its place at every level."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from marked import Marked, elongated, middle, write_svs
from napari.layers import Layer

from napari_wsimil.gui.session import Session
from napari_wsimil.gui.view_state import View
from napari_wsimil.gui.viewer.overview import Overview
from napari_wsimil.gui.viewer.slide_layers import slide_layers
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer
    from numpy.typing import NDArray
    from pytestqt.qtbot import QtBot

FLOORS, CEILINGS = (math.floor, math.floor), (math.ceil, math.ceil)
SLIDES = {
    "long": (elongated(), 1.0),
    "wide": (Marked((3001, 203), (2700, 40, 2860, 160), (4.0, 16.0), (CEILINGS,) * 2), 1.0),
    "fractions": (Marked((205, 2500), (30, 2200, 150, 2340), (2.37, 5.61), (FLOORS,) * 2), 5.61),
}


@pytest.mark.parametrize("name", list(SLIDES))
def test_every_level_shows_the_mark_in_its_place(
    name: str, make_napari_viewer: Callable[[], Viewer], qtbot: QtBot, tmp_path: Path
) -> None:
    """With the level locked, to a screen pixel or the level's own."""
    marked, pixel = SLIDES[name]
    viewer = make_napari_viewer(show=True)
    with open_slide(write_svs(tmp_path / "slide.svs", marked.levels())) as slide:
        layer = viewer.add_layer(Layer.create(*slide_layers(slide)[1]))
        left, top, right, bottom = marked.mark
        for level in range(len(slide.display_levels)):
            layer.locked_data_level = level
            camera = viewer.scene.camera
            camera.zoom = 200 / max(right - left, bottom - top)
            x, y = marked.middle.tolist()
            camera.center = (0, y + 7, x + 5)
            qtbot.waitUntil(lambda: bool(_stain(_shot(viewer)).any()), timeout=20_000)
            shot = _shot(viewer)
            screen = middle(shot) - np.array(shot.shape[1::-1]) / 2
            place = screen / camera.zoom + np.array(camera.center[:0:-1]) + 0.5
            off = np.abs(place - marked.middle).max()
            assert off <= max(pixel, 1.5 / camera.zoom), f"level {level}: {off:.1f} px off"
        viewer.layers.clear()


def _shot(viewer: Viewer) -> NDArray[np.uint8]:
    shot: NDArray[np.uint8] = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    return shot


def _stain(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return picture[..., 0] > picture[..., 1]


@pytest.mark.parametrize("name", list(SLIDES))
def test_the_overviews_frame_lies_on_the_mark(name: str, qtbot: QtBot, tmp_path: Path) -> None:
    from qtpy.QtWidgets import QWidget

    marked, _ = SLIDES[name]
    parent = QWidget()
    qtbot.addWidget(parent)
    with open_slide(write_svs(tmp_path / "slide.svs", marked.levels())) as slide:
        pane = Session().pane
        pane.slide_state.slide = slide
        overview = Overview(pane, parent)
        width, height = np.diff(np.reshape(marked.mark, (2, 2)), axis=0)[0].tolist()
        x, y = marked.middle.tolist()
        picture = overview.map.grab().toImage()
        shades = [
            [picture.pixelColor(column, row).getRgb()[:3] for column in range(picture.width())]
            for row in range(picture.height())
        ]
        pane.view_state.view = View(x, y, width, height, None)
        frame = overview.map.frame().center()
        place = middle(np.array(shades, np.uint8)[1:-1, 1:-1]) + 1
        assert abs(frame.y() - place[1]) <= 1
        assert abs(frame.x() - place[0]) <= 1
        pane.slide_state.slide = None
