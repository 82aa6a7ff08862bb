"""What one reads maps with: clicks, overview, magnification, smoothing, maps side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from builders import COORDS, RAW, predicted
from napari.layers import Layer
from windows import Docks, save_untrained

from napari_wsimil.explain.color_scale import Stretch
from napari_wsimil.explain.map_shift import difference
from napari_wsimil.gui.session import Session
from napari_wsimil.gui.text import caption
from napari_wsimil.gui.view_state import Cursor, Display, View
from napari_wsimil.gui.viewer.layers import Layers
from napari_wsimil.gui.viewer.outline_layers import area_layer, chosen_layer, path_layer
from napari_wsimil.gui.viewer.overlays import map_layer
from napari_wsimil.gui.viewer.readout import Readout
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.slides.geometry import Region
from napari_wsimil.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_wsimil.gui.viewer.slide_layers import LayerTuple


@pytest.fixture
def slide(coded_slide: Path) -> Iterator[Slide]:
    with open_slide(coded_slide) as opened:
        yield opened


def test_a_click_on_a_patch_tells_its_picture_values_and_rank(asked: Docks) -> None:
    asked.click(7)
    card = asked.explain.patches.card
    asked.wait(lambda: card.picture.pixmap() is not None and not card.reading.busy)
    prediction = asked.pane.prediction
    assert prediction is not None
    scores = prediction.explanations[0].scores
    times = float(scores[7]) * len(scores)
    rank = 1 + int((scores > scores[7]).sum())
    assert "<b>patch 8</b>" in card.words.text()
    assert f"{times:.3g}</td><td style=font-weight:bold>&nbsp;rank {rank}<" in card.words.text()
    assert "112 µm wide" in card.words.text()
    assert asked.pane.slide is not None
    assert prediction.bag.grid is not None
    x, y = prediction.bag.grid.coords[7].tolist()
    picture = asked.pane.slide.read_patch(x, y, prediction.bag.grid.patch_size, 224)
    shown = card.picture.pixmap().toImage().pixelColor(56, 56)
    near = picture[100:124, 100:124].reshape(-1, 3)
    assert near.min(axis=0)[0] - 20 <= shown.red() <= near.max(axis=0)[0] + 20


def test_a_click_outside_of_the_patches_says_so_and_picks_nothing(asked: Docks) -> None:
    asked.click(7)
    asked.presenter.picking.pick(1.0, 1.0)
    assert asked.pane.view_state.picked is None
    assert asked.presenter.describe(1.0, 1.0) == "x 1 µm, y 1 µm · outside the tissue"
    assert "Click a patch" in asked.explain.patches.card.words.text()


def test_the_mouse_picks_on_a_click_and_draws_an_area_with_shift(asked: Docks) -> None:
    class Press:
        button, modifiers, type = 1, (), "mouse_press"
        pos, position = np.array([10, 10]), (200.0, 300.0)

    event = Press()
    press = asked.presenter.picking._press(None, event)
    next(press)
    event.type = "mouse_release"
    assert next(press, "end") == "end"
    assert asked.pane.view_state.picked == asked.presenter.lookup().at(300 / 0.499, 200 / 0.499)
    event.modifiers, event.type = ("Shift",), "mouse_press"
    press = asked.presenter.picking._press(None, event)
    next(press)
    assert not asked.viewer.scene.camera.mouse_pan
    event.type, event.pos, event.position = "mouse_move", np.array([60, 60]), (100.0, 399.8)
    next(press)
    event.type = "mouse_release"
    assert next(press, "end") == "end"
    assert asked.viewer.scene.camera.mouse_pan
    assert asked.pane.view_state.area == Region(601, 200, 200, 201)
    assert "picked" in asked.names()


def test_the_mouse_is_left_to_a_layer_that_is_being_drawn_on(asked: Docks) -> None:
    points = asked.viewer.add_points(np.zeros((1, 2)), name="mine")
    points.mode = "add"
    assert asked.viewer.layers.selection.active is points

    class Press:
        button, modifiers, type = 1, (), "mouse_press"

    assert next(asked.presenter.picking._press(None, Press()), "ignored") == "ignored"


def test_a_preset_shows_that_many_microns_per_pixel_and_the_view_tells_it(asked: Docks) -> None:
    asked.presenter.camera.magnify(20.0)
    view = asked.pane.view_state.view
    assert view is not None
    assert view.um == pytest.approx(0.5)
    assert view.magnification == pytest.approx(20.0)
    height, _ = asked.viewer.canvas.size
    assert view.height == pytest.approx(height * 0.5 / 0.499, rel=1e-3)


def test_the_overview_frames_the_view_and_a_click_moves_it(asked: Docks) -> None:
    from qtpy.QtCore import QPoint
    from qtpy.QtWidgets import QWidget

    from napari_wsimil.gui.viewer.overview import Overview

    parent = QWidget()
    asked.qtbot.addWidget(parent)
    parent.resize(600, 500)
    overview = Overview(asked.pane, parent)
    assert overview.y() + overview.height() <= 500
    asked.presenter.camera.magnify(20.0)
    frame = overview.map.frame()
    view, slide = asked.pane.view_state.view, asked.pane.slide
    assert frame is not None
    assert view is not None
    assert slide is not None
    scale = overview.map.width() / slide.dimensions[0]
    assert frame.width() == pytest.approx(view.width * scale, rel=0.005)  # half a pixel of it
    asked.qtbot.mouseClick(overview.map, _left(), pos=QPoint(1, 1))
    assert asked.viewer.scene.camera.center[-1] == pytest.approx(1109 / overview.map.width(), abs=1)
    overview.magnify(5.0)
    assert asked.viewer.scene.camera.zoom == pytest.approx(0.5)
    assert overview.magnification.text().startswith("5×")


def _left() -> object:
    from qtpy.QtCore import Qt

    return Qt.MouseButton.LeftButton


def test_smoothing_keeps_edges_and_is_said(asked: Docks) -> None:
    plain = asked.viewer.layers["attention"].data
    asked.explain.map.smooth.setChecked(True)
    layer = asked.viewer.layers["attention"]
    factor = layer.data.shape[0] // plain.shape[0]
    assert factor > 1
    clear = np.isnan(plain).repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(np.isnan(layer.data), clear)
    assert np.nanmin(layer.data) >= np.nanmin(plain) - 1e-6
    assert np.nanmax(layer.data) <= np.nanmax(plain) + 1e-6
    assert len(np.unique(layer.data[~clear])) > 2 * len(np.unique(plain[~np.isnan(plain)]))
    assert "smoothed for the eye" in asked.viewer.canvas.overlays.text.text


def test_a_smooth_map_lies_where_the_plain_one_does(slide: Slide) -> None:
    plain = Layer.create(*map_layer(slide, predicted(slide), RAW))
    smooth = Layer.create(
        *map_layer(slide, predicted(slide), Display(stretch=Stretch.RAW, smooth=True))
    )
    np.testing.assert_allclose(plain.extent.world[0] - plain.scale / 2, [-0.25, -0.25], atol=0.3)
    edges = [
        (layer.extent.world[0] - layer.scale / 2, layer.extent.world[1] + layer.scale / 2)
        for layer in (plain, smooth)
    ]
    np.testing.assert_allclose(edges[0], edges[1], atol=1e-6)


def test_a_choice_is_outlined_where_it_ends(slide: Slide) -> None:
    """Line by line: every side of a chosen patch that no other chosen patch of its unit shares."""
    coords = np.array([[0, 0], [64, 0], [128, 0], [0, 64], [64, 64], [300, 200]], np.int64)
    found = predicted(slide, coords)
    kept = torch.tensor([1.0, 1, 0, 0, 1, 1])
    for index in (None, torch.tensor([0, 0, 0, 1, 1, 1])):
        scores = kept if index is None else torch.tensor([0.0, 0.4])
        choice = Explanation("kept", ExplanationKind.PROBABILITY, scores, index, outlined=True)
        data, options, _ = chosen_layer(slide, found, [choice])
        assert options["name"] == "kept"
        edges = data[:, 0] / 0.5 + 0.5  # a line lies on the edge of pixels, not on their centers
        np.testing.assert_allclose(edges % 4, 0, atol=1e-9)
        chosen = [(p, 0 if index is None else int(index[p])) for p in range(6)]
        chosen = [(p, u) for p, u in chosen if float(choice.per_patch()[p]) > 0]
        assert _sides(data / 0.5) == _expected(coords, chosen)


def _sides(lines: np.ndarray) -> set[tuple[int, ...]]:
    """Return the unit pieces of 4 px that lines in level-0 pixels consist of."""
    pieces = set()
    for (y, x), (down, right) in lines + np.array([[0.5, 0.5], [0, 0]]):
        for step in np.arange(0, max(down, right), 4):
            place = (y + step, x, 1) if down else (y, x + step, 0)
            pieces.add(tuple(round(number) for number in place))
    return pieces


def _expected(coords: np.ndarray, chosen: list[tuple[int, int]]) -> set[tuple[int, ...]]:
    cells = {
        (y, x): unit
        for patch, unit in chosen
        for y in range(coords[patch][1], coords[patch][1] + 64, 4)
        for x in range(coords[patch][0], coords[patch][0] + 64, 4)
    }
    pieces = set()
    for (y, x), unit in cells.items():
        for ny, nx, piece in (
            (y - 4, x, (y, x, 0)),
            (y + 4, x, (y + 4, x, 0)),
            (y, x - 4, (y, x, 1)),
            (y, x + 4, (y, x + 4, 1)),
        ):
            if cells.get((ny, nx)) != unit:
                pieces.add(piece)
    return pieces


def test_a_layer_of_lines_keeps_its_length_and_clears_what_is_too_many(asked: Docks) -> None:
    """Napari slices lines in a thread: a slice of before must find as many as it knows."""

    def lines(count: int, opaque: float) -> LayerTuple:
        data = np.arange(4.0 * count).reshape(count, 2, 2)
        options = {"name": f"{count}", "edge_color": np.full((count, 4), opaque)}
        return data, options, "vectors"

    layers = Layers(asked.viewer)
    layer = layers.put_lines("path", lines(5, 1.0))
    assert layer is not None
    assert layers.put_lines("path", lines(2, 0.5)) is layer
    assert layer.name == "2"
    np.testing.assert_array_equal(layer.data[:2], lines(2, 0.5)[0])
    np.testing.assert_array_equal(layer.data[2:], lines(2, 0.5)[0][[1, 1, 1]])
    np.testing.assert_array_equal(layer.edge_color[:, 3], [0.5, 0.5, 0, 0, 0])
    assert layers.put_lines("path", lines(7, 1.0)) is layer
    np.testing.assert_array_equal(layer.data, lines(7, 1.0)[0])
    np.testing.assert_array_equal(layer.edge_color[:, 3], np.ones(7))
    assert layers.put_lines("path", lines(0, 1.0)) is None
    assert layer not in asked.viewer.layers


def test_the_frame_of_an_area_lies_on_the_edges_of_its_pixels(slide: Slide) -> None:
    data, _, _ = area_layer(slide, Region(100, 40, 64, 30))
    ends = np.concatenate([data[:, 0], data[:, 0] + data[:, 1]]) / 0.5
    np.testing.assert_allclose(ends.min(axis=0), [39.5, 99.5])
    np.testing.assert_allclose(ends.max(axis=0), [69.5, 163.5])


def test_a_path_goes_from_center_to_center(slide: Slide) -> None:
    data, _, kind = path_layer(slide, predicted(slide), np.array([2, 0, 3]))
    assert kind == "vectors"
    centers = (COORDS[[2, 0, 3]][:, ::-1] + 31.5) * 0.5
    np.testing.assert_allclose(data[:, 0], centers[:-1])
    np.testing.assert_allclose(data[:, 0] + data[:, 1], centers[1:])


def test_all_branches_lie_side_by_side_and_move_together(asked: Docks) -> None:
    box = asked.explain.map.beside
    box.choice.setCurrentIndex(1)
    box.choice.activated.emit(1)
    assert box.choice.currentText() == "all of: branch"
    layers = asked.beside.model.layers
    asked.wait(lambda: asked.beside.loaded)
    names = [layer.name for layer in layers][1::2]
    assert names == [f"branch {m}: 0 to 10 × average" for m in range(1, 6)]
    assert asked.pane.prediction is not None
    times = asked.pane.prediction.explanations[3].scores * len(asked.pane.prediction.bag)
    assert np.nanmax(layers[5].data) == pytest.approx(float(times.max()), rel=1e-5)
    asked.viewer.scene.camera.center = (0.0, 333.0, 222.0)
    np.testing.assert_allclose(asked.beside.model.scene.camera.center[-2:], (333.0, 222.0))
    asked.beside.model.scene.camera.center = (0.0, 111.0, 444.0)
    np.testing.assert_allclose(asked.viewer.scene.camera.center[-2:], (111.0, 444.0))
    asked.explain.map.stretch.setCurrentIndex(2)
    asked.explain.map.stretch.activated.emit(2)
    assert tuple(layers[5].contrast_limits) == (0, 100)
    box.choice.setCurrentIndex(0)
    box.choice.activated.emit(0)
    assert len(layers) == 0


def test_another_model_lies_beside_and_its_map_can_be_taken_away(
    asked: Docks, tmp_path: Path
) -> None:
    box, pane = asked.explain.map.beside, asked.pane
    assert not box.difference.isEnabled()
    assert "Choose one map" in box.difference.toolTip()
    box.compare(save_untrained(tmp_path / "another.safetensors", "abmil"))
    asked.idle()
    assert len(asked.beside.model.layers) == 2
    assert box.choice.currentText() == "the other model: another"
    box.difference.setChecked(True)
    other = asked.session.beside.prediction
    assert pane.prediction is not None
    assert other is not None
    gap = pane.prediction.explanations[0].scores - other.explanations[0].scores
    shown = asked.viewer.layers["difference"].data
    n = len(gap)
    assert np.nanmax(shown) == pytest.approx(float(gap.max()) * n, rel=1e-4)
    assert np.nanmin(shown) == pytest.approx(float(gap.min()) * n, rel=1e-4)
    words = asked.viewer.canvas.overlays.text.text.replace("\n", " ")
    assert "attention of acmil − attention of abmil" in words
    assert box.choice.currentText() == "the other model: another"
    box.choose("branch 1")
    assert "difference" not in asked.names()
    assert not box.difference.isChecked()
    assert "attention" in asked.names()


def test_a_difference_is_of_one_unit_and_signed(slide: Slide) -> None:
    found = predicted(slide)
    maps = (
        Explanation("a", ExplanationKind.ATTENTION, torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1])),
        Explanation("b", ExplanationKind.ATTENTION, torch.tensor([0.2, 0.5, 0.1, 0.1, 0.1])),
        Explanation("p", ExplanationKind.PROBABILITY, torch.full((5,), 0.5)),
    )
    object.__setattr__(found, "explanations", maps)
    shown = difference(found, 0, found, 1)
    np.testing.assert_allclose(shown.scores, [1.5, -1.5, 0, 0, 0], atol=1e-6)
    assert "× average" in shown.unit
    with pytest.raises(ValueError, match="0 to 1"):
        difference(found, 0, found, 2)
    other = predicted(slide, COORDS[::-1].copy())
    with pytest.raises(ValueError, match="different patches"):
        difference(found, 0, other, 0)


def test_our_layers_keep_their_order_and_leave_others_alone(asked: Docks) -> None:
    mine = asked.viewer.add_points(np.zeros((1, 2)), name="mine")
    asked.click(3)
    ours = [name for name in asked.names() if name != "mine"]
    assert ours[-2:] == ["attention", "picked"]
    assert asked.names()[-1] == "mine"
    assert asked.viewer.layers.selection.active is mine
    asked.viewer.layers.remove("picked")
    asked.click(4)
    assert asked.names()[-1] == "mine"


def test_the_canvas_beside_opens_by_itself_where_no_dock_has_it(
    make_napari_viewer: Callable[[], Viewer],
    qtbot: QtBot,
    small_slide: Path,
    features: Path,
    checkpoint: Path,
) -> None:
    """As in napari, where somebody opened our other docks from the menu."""
    docks = Docks(make_napari_viewer(), qtbot, beside=False)
    docks.ask(small_slide, features, checkpoint)
    assert "Compare" not in docks.viewer.window.dock_widgets
    docks.explain.map.beside.choose("all of: branch")
    beside = docks.viewer.window.dock_widgets["Compare"]
    assert len(beside.model.layers) == 10
    docks.explain.map.beside.choose("nothing")
    docks.explain.map.beside.choose("branch 1")
    assert len(beside.model.layers) == 2


def test_a_held_key_hides_the_maps_beside_too_and_what_was_chosen(asked: Docks) -> None:
    asked.explain.map.beside.choose("branch 2")
    chosen = Explanation("kept", ExplanationKind.PROBABILITY, torch.ones(31), outlined=True)
    n = len(asked.pane.prediction.bag)
    asked.pane.show_extra("test", (replace(chosen, scores=torch.ones(n)),))
    held = asked.presenter._hide_while_held(asked.viewer)
    next(held)
    assert not asked.viewer.layers["kept"].visible
    assert not asked.beside.model.layers[1].visible
    next(held, None)
    assert asked.viewer.layers["kept"].visible
    assert asked.beside.model.layers[1].visible


def test_lines_are_as_wide_on_screen_wherever_one_is(asked: Docks) -> None:
    asked.click(3)
    for zoom in (0.05, 0.4, 4.0):
        asked.viewer.scene.camera.zoom = zoom
        width = asked.viewer.layers["picked"].edge_width * zoom
        assert 1.5 < width < 4


def test_the_first_patches_are_those_of_the_map_that_is_shown(asked: Docks) -> None:
    from napari_wsimil.models.base import Explanation as Map

    first = asked.explain.patches.first
    asked.wait(lambda: first.count() == 8)
    n = len(asked.pane.prediction.bag)
    for top in (3, 9):
        scores = torch.zeros(n)
        scores[top] = 1.0
        map_ = Map("made up", ExplanationKind.SCORE, scores)
        asked.pane.show_extra("test", (map_,), first=True)
        title = f"patch {top + 1}"
        asked.wait(lambda title=title: first.count() == 8 and first.item(0).toolTip() == title)


def test_the_rank_of_an_order_is_when_a_patch_was_looked_at(slide: Slide) -> None:
    found = predicted(slide)
    order = Explanation("order", ExplanationKind.ORDER, torch.tensor([2.0, 1, np.nan, 3, np.nan]))
    object.__setattr__(found, "explanations", (order, *found.explanations))
    session = Session()
    session.pane.slide_state.slide = slide
    session.pane.prediction_state.prediction = found
    places = [Cursor(float(x) + 1, float(y) + 1) for x, y in COORDS]
    readout = Readout(session)
    assert readout.describe(places[1]).endswith("order: 1 step · rank 1")
    assert readout.describe(places[3]).endswith("order: 3 step · rank 3")
    session.pane.view_state.display = Display(map_index=1)
    assert readout.describe(places[2]).endswith("not looked at")


def test_a_threshold_and_overlapping_patches_are_told(slide: Slide) -> None:
    found = predicted(slide)
    assert "below 40% of the color bar" in caption(slide, found, Display(threshold=0.4))
    assert "overlap" not in caption(slide, found, Display())
    grid = replace(found.bag.grid, stride=32)
    object.__setattr__(found, "bag", replace(found.bag, grid=grid))
    assert "patches overlap" in caption(slide, found, Display())


def test_answers_and_models_do_not_pile_up_in_memory(asked: Docks) -> None:
    import gc
    import weakref

    alive = []
    for patch in range(4):
        asked.click(patch)
        asked.wait(lambda: not asked.explain.patches.card.reading.busy)
        asked.explain.run()
        asked.idle()
        alive.append(weakref.ref(asked.pane.prediction))
    gc.collect()
    assert sum(one() is not None for one in alive) <= 2


def test_a_map_that_a_new_run_is_to_replace_says_so(asked: Docks) -> None:
    asked.explain.run()
    assert "OUT OF DATE" in asked.viewer.canvas.overlays.text.text
    asked.explain.job.cancel()
    asked.idle()
    assert "did not end" in asked.viewer.canvas.overlays.text.text.replace("\n", " ")
    asked.explain.run()
    asked.idle()
    assert "OUT OF DATE" not in asked.viewer.canvas.overlays.text.text


def test_a_view_knows_its_magnification_and_moves() -> None:
    view = View(100.0, 50.0, 400.0, 200.0, 0.25)
    assert view.magnification == 40.0
    assert view.region == Region(-100, -50, 400, 200)
    assert view.moved(10.0, 20.0, 2.0) == View(10.0, 20.0, 800.0, 400.0, 0.5)
    assert View(0.0, 0.0, 1.0, 1.0, None).magnification is None
