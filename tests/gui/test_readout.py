"""The read-out under the cursor: seen whatever napari writes, right wherever the mouse is."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject, QPoint
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget
from windows import Docks

from napari_wsimil.gui.widgets.readout import ReadoutBar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from napari.qt import QtViewer
    from pytestqt.qtbot import QtBot

#: Seconds after which napari's own status text has long been written.
_LATER = 0.1
#: Seconds that a move may take to reach the canvas; none comes if the mouse is there already.
_LONGEST = 3.0
#: Seconds below which handling events drew no frame.
_QUICK = 0.01


@pytest.fixture
def shown(
    make_napari_viewer: Callable[..., Viewer],
    qtbot: QtBot,
    small_slide: Path,
    checkpoint: Path,
    features: Path,
) -> Iterator[Docks]:
    """The real slide, asked about in a window on the screen as a laptop's is."""
    docks = Docks(make_napari_viewer(show=True), qtbot)
    docks.viewer.window.resize(1366, 768)
    docks.ask(small_slide, features, checkpoint)
    docks.viewer.reset_view()
    yield docks
    for row in (docks.slide.job, *docks.explain.jobs):
        row.cancel()
    docks.idle()


def bar_of(docks: Docks) -> ReadoutBar:
    window = docks.slide.window()
    assert isinstance(window, QMainWindow)
    return window.findChild(ReadoutBar)


def settle() -> None:
    """Let napari's status thread have its word, and take in what came during a slow frame."""
    end, quick = time.monotonic() + _LATER, False
    while not quick or time.monotonic() < end:
        start = time.monotonic()
        QApplication.processEvents()
        quick = time.monotonic() - start < _QUICK


class Moves(QObject):
    """Counts the moves of the mouse that reach a canvas."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.count = 0
        canvas.installEventFilter(self)

    def eventFilter(self, _: QObject, event: QEvent) -> bool:
        self.count += event.type() == QEvent.Type.MouseMove
        return False


def move(canvas: QtViewer, x: float, y: float) -> None:
    """Move the mouse of the screen to a pixel of a canvas, by way of its corner.

    A canvas drops moves that follow each other within 10 ms, and a busy screen is late with them.
    """
    native = canvas.canvas.native
    moves = Moves(native)
    for place in (QPoint(5, 5), QPoint(round(x), round(y))):
        before, end = moves.count, time.monotonic() + _LONGEST
        QCursor.setPos(native.mapToGlobal(place))
        while moves.count == before and time.monotonic() < end:
            QApplication.processEvents()
        settle()
    native.removeEventFilter(moves)


def over(docks: Docks, x: float, y: float) -> str:
    """Move the mouse over a place in µm and return the read-out."""
    camera, (height, width) = docks.viewer.scene.camera, docks.viewer.canvas.size
    canvas = docks.viewer.window._qt_viewer
    left = width / 2 + (x - camera.center[-1]) * camera.zoom
    top = height / 2 + (y - camera.center[-2]) * camera.zoom
    for _ in range(3):  # a canvas may drop a move
        move(canvas, left, top)
        cursor = docks.pane.view_state.cursor
        if cursor is not None and abs(cursor.x * 0.499 - x) < 3 / camera.zoom:
            break
    return bar_of(docks).text()


def assert_near(docks: Docks, words: str, x: float, y: float) -> None:
    """Assert that a read-out names a place in µm, to one and a half pixels of the screen."""
    match = re.match(r"x (-?[\d,]+) µm, y (-?[\d,]+) µm", words)
    assert match is not None, words
    place = [float(side.replace(",", "")) for side in match.groups()]
    assert place == pytest.approx((x, y), abs=1.5 / docks.viewer.scene.camera.zoom)


def middle(docks: Docks, patch: int) -> tuple[float, float]:
    """Return the middle of a patch in µm."""
    assert docks.pane.prediction is not None
    grid = docks.pane.prediction.bag.grid
    assert grid is not None
    x, y = (grid.coords[patch] + grid.patch_size / 2) * 0.499
    return float(x), float(y)


def test_the_real_cursor_reads_place_patch_value_and_rank(shown: Docks) -> None:
    prediction = shown.pane.prediction
    assert prediction is not None
    scores = prediction.explanations[0].scores
    for patch in (7, 20):
        x, y = middle(shown, patch)
        words = over(shown, x, y).split(" · ")
        assert_near(shown, words[0], x, y)
        times = float(scores[patch]) * len(scores)
        rank = 1 + int((scores > scores[patch]).sum())
        assert words[1:] == [
            f"patch {patch + 1} of {len(scores)}",
            f"attention: {times:.3g} × average",
            f"rank {rank}",
        ]


def test_whatever_layer_is_active_the_read_out_is_the_same(shown: Docks) -> None:
    mine = shown.viewer.add_shapes(name="mine")
    for layer in (shown.viewer.layers["slide 3957"], shown.viewer.layers["attention"], mine):
        shown.viewer.layers.selection = {layer}
        assert "patch 8 of" in over(shown, *middle(shown, 7))
        napari_says = shown.viewer.status
        assert isinstance(napari_says, dict)
        assert napari_says["layer_base"] == layer.name
        assert bool(napari_says["coordinates"].strip()) == (layer is mine), (
            "raw RGB beside the read-out"
        )
    shown.viewer.layers.selection = set()
    assert "patch 8 of" in over(shown, *middle(shown, 7))


def test_the_read_out_follows_camera_and_drag_and_ends_off_the_canvas(shown: Docks) -> None:
    x, y = middle(shown, 7)
    over(shown, x, y)
    center = shown.viewer.scene.camera.center[-2:]
    shown.viewer.scene.camera.center = (0.0, center[0] + 100.0, center[1] + 40.0)
    settle()
    assert_near(shown, bar_of(shown).text(), x + 40, y + 100)
    drag = SimpleNamespace(type="mouse_press", pos=(9, 9), position=(9.0, 9.0), viewbox=None)
    drag.modifiers, drag.button = (), 2
    pressed = [press(shown.viewer, drag) for press in shown.viewer.mouse_drag_callbacks]
    for event in (drag, SimpleNamespace(**vars(drag))):
        event.type, event.position = "mouse_move", (x, 20.0)
        for one in pressed:
            next(one, None)
    settle()
    assert_near(shown, bar_of(shown).text(), 20.0, x)
    dock = shown.slide
    QCursor.setPos(dock.mapToGlobal(QPoint(50, 50)))
    settle()
    assert bar_of(shown).text() == ""


def test_where_no_patch_is_the_read_out_says_why(shown: Docks) -> None:
    tissue, prediction = shown.pane.tissue, shown.pane.prediction
    assert tissue is not None
    assert prediction is not None
    lookup = shown.presenter.lookup()
    assert lookup is not None
    scale = tissue.downsample if isinstance(tissue.downsample, float) else tissue.downsample[0]
    rows, columns = np.nonzero(tissue.mask)
    bare = next(
        (column * scale, row * scale)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if lookup.at(column * scale, row * scale) is None
        and tissue.mask[row : row + 3, column : column + 3].all()
    )
    x, y = bare[0] * 0.499 + 1, bare[1] * 0.499 + 1
    assert shown.presenter.describe(y, x).endswith("· tissue outside the patches")
    assert shown.presenter.describe(-40.0, -40.0) == "x -40 µm, y -40 µm · outside the slide"
    assert over(shown, 2.0, 2.0).endswith("outside the tissue")
    shown.pane.show_prediction(prediction)
    shown.pane.slide_state.tissue = None
    assert shown.presenter.describe(2.0, 2.0).endswith("· no patch here")


def test_without_a_pixel_size_places_are_level_0_pixels_and_say_so(
    make_napari_viewer: Callable[..., Viewer], qtbot: QtBot, data: Path
) -> None:
    docks = Docks(make_napari_viewer(show=True), qtbot)
    docks.slide.open(data / "slides" / "boxes.tiff")
    docks.idle()
    assert over(docks, 120.0, 80.0) == "x 120 px, y 80 px of level 0 (pixel size unknown)"


def test_maps_beside_are_read_out_too_and_first_where_the_mouse_is(shown: Docks) -> None:
    shown.explain.map.beside.choose("all of: branch")
    shown.wait(lambda: shown.beside.loaded)
    shown.viewer.reset_view()
    settle()
    values = {}
    for title in ("attention", *shown.pane.view_state.side):
        shown.pane.show_map(title)
        words = shown.presenter.describe(*middle(shown, 7)[::-1]).split(" · ")
        values[title] = words[2].removeprefix(f"{title}: ")
    shown.pane.show_map("attention")
    assert len(values) > 3
    words = over(shown, *middle(shown, 7))
    titles = [part.split(": ")[-2] for part in words.split(" · ") if ": " in part]
    assert titles == list(values)
    assert all(f"{title}: {value}" in words for title, value in values.items())
    canvas = shown.beside._canvas
    assert canvas is not None
    height, width = shown.beside.model.canvas.size
    camera, (x, y) = shown.beside.model.scene.camera, middle(shown, 7)
    for cell in (0, len(shown.pane.view_state.side) - 1):
        left = (cell + 0.5) * width / len(shown.pane.view_state.side)
        left += (x - camera.center[-1]) * camera.zoom
        move(canvas, left, height / 2 + (y - camera.center[-2]) * camera.zoom)
        words, name = bar_of(shown).text(), shown.pane.view_state.side[cell]
        assert f"patch 8 of 51 · {name}: {values[name]}" in words
        assert f"beside: attention: {values['attention']}" in words


def test_the_read_out_is_in_the_window_uncut_and_still(shown: Docks) -> None:
    bar, window = bar_of(shown), shown.slide.window()
    empty = bar.geometry()
    over(shown, *middle(shown, 7))
    assert bar.geometry() == empty
    assert bar.isVisible()
    assert bar._label.text() == bar.text()
    corner = bar.mapTo(window, QPoint(bar.width(), bar.height()))
    assert corner.x() <= window.width() <= 1366
    assert corner.y() <= window.height()
    shown.explain.map.beside.choose("all of: branch")
    shown.wait(lambda: shown.beside.loaded)
    shown.viewer.reset_view()
    settle()
    over(shown, *middle(shown, 7))
    assert bar._label.text().endswith("…")
    assert bar.toolTip() == bar.text()


def test_a_move_costs_less_than_two_milliseconds(asked: Docks) -> None:
    x, y = middle(asked, 7)
    asked.presenter.describe(y, x)
    begin = time.perf_counter()
    for step in range(200):
        asked.presenter.describe(y + step, x)
    assert (time.perf_counter() - begin) / 200 < 0.002
