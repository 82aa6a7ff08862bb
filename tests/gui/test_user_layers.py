"""Layers that a user adds belong to their slide, and measure in its units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from npe2 import PluginManager

from napari_wsimil.gui.viewer.measures import measure, measure_words

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks

SQUARE = np.array([[100.0, 200.0], [100, 300], [200, 300], [200, 200]])
LAYERS = {
    "shapes": [SQUARE],
    "points": SQUARE,
    "labels": np.zeros((60, 40), np.uint8),
    "tracks": np.array([[1.0, 0, 10, 20], [1, 1, 30, 40]]),
    "vectors": np.array([[[10.0, 10], [5, 5]]]),
    "surface": (SQUARE[:3], np.array([[0, 1, 2]]), np.ones(3)),
    "image": np.zeros((30, 50), np.float32),
}


def open_slide_of(docks: Docks, path: Path, by_napari: bool = False) -> None:
    if by_napari:
        before = docks.pane.slide
        docks.viewer.open(path, plugin="napari-wsimil")
        docks.wait(lambda: docks.pane.slide is not before)
    else:
        docks.slide.open(path)
    docks.idle()


def add_all(docks: Docks) -> list[Layer]:
    """Add one layer of each kind above the slide."""
    layers = [Layer.create(data, {"name": kind}, kind) for kind, data in LAYERS.items()]
    for layer in layers:
        docks.viewer.add_layer(layer)
    return layers


def outline(layer: Layer) -> np.ndarray:
    """Return the corners of a layer's extent in world units."""
    return np.asarray(layer.extent.world)[:, -2:]


@pytest.mark.parametrize("by_napari", [False, True])
def test_layers_go_and_come_back_with_their_slide(
    docks: Docks, small_slide: Path, coded_slide: Path, by_napari: bool
) -> None:
    open_slide_of(docks, small_slide, by_napari)
    mine = add_all(docks)
    places = [outline(layer) for layer in mine]
    docks.viewer.layers.move(docks.viewer.layers.index(mine[2]), 0)
    mine = [mine[2], *mine[:2], *mine[3:]]
    mine[4].visible = False
    docks.viewer.layers.selection = {mine[1], mine[3]}
    mine[0].fill((3, 3), 7)  # to be undone after the return
    open_slide_of(docks, coded_slide, by_napari)
    assert not [layer for layer in mine if layer in docks.viewer.layers]
    other = docks.viewer.add_points(np.ones((1, 2)), name="other")
    open_slide_of(docks, small_slide, by_napari)
    assert other not in docks.viewer.layers
    assert docks.slide.put_away.text() == "Put away: 1 layer of 1 slide"
    assert [layer for layer in docks.viewer.layers if layer in mine] == mine
    assert docks.viewer.layers[0] is mine[0], "it lay beneath the slide"
    assert [layer.visible for layer in mine] == [True, True, True, True, False, True, True]
    assert docks.viewer.layers.selection == {mine[1], mine[3]}
    for layer, place in zip([*mine[1:3], mine[0], *mine[3:]], places, strict=True):
        np.testing.assert_allclose(outline(layer), place)
    mine[0].undo()
    assert mine[0].data.max() == 0
    open_slide_of(docks, coded_slide, by_napari)
    assert [layer for layer in docks.viewer.layers if layer in (*mine, other)] == [other]


def test_closing_the_slide_puts_its_layers_away_too(docks: Docks, small_slide: Path) -> None:
    open_slide_of(docks, small_slide)
    mine = docks.viewer.add_shapes(SQUARE, name="mine")
    docks.viewer.layers.remove("slide 3957")
    docks.wait(lambda: docks.pane.slide is None)
    assert not list(docks.viewer.layers)
    open_slide_of(docks, small_slide)
    assert mine in docks.viewer.layers


def test_layers_added_before_any_slide_become_those_of_the_first(
    docks: Docks, small_slide: Path, coded_slide: Path
) -> None:
    early = docks.viewer.add_points(SQUARE, name="early")
    open_slide_of(docks, small_slide)
    assert early in docks.viewer.layers
    np.testing.assert_allclose(early.scale, 0.499)
    open_slide_of(docks, coded_slide)
    assert early not in docks.viewer.layers


def test_layers_of_others_change_neither_units_nor_scale_bar(
    docks: Docks, small_slide: Path
) -> None:
    open_slide_of(docks, small_slide)
    docks.viewer.canvas.overlays.scale_bar.visible = True
    notes = len(notification_manager.records)
    add_all(docks)
    docks.viewer.add_image(np.zeros((9, 9)), name="mm", scale=(0.01, 0.01), units=("mm", "mm"))
    docks.viewer.add_image(np.zeros((9, 9)), name="nm", scale=(200, 200), units=("nm", "nm"))
    docks.viewer.add_points(SQUARE, name="laid", scale=(2, 2), translate=(5, 5))
    docks.viewer._new_labels()
    assert notification_manager.records[notes:] == [], "napari warns of units"
    assert docks.viewer.layers.units is not None
    assert {str(unit) for unit in docks.viewer.layers.units[-2:]} == {"micrometer"}
    layers = docks.viewer.layers
    np.testing.assert_allclose(outline(layers["points"])[0], SQUARE.min(axis=0) * 0.499)
    np.testing.assert_allclose(layers["mm"].scale, 10)
    np.testing.assert_allclose(layers["nm"].scale, 0.2)
    np.testing.assert_allclose(outline(layers["laid"])[0], SQUARE.min(axis=0) * 2 + 5)


def test_drawings_stay_on_their_tissue_when_the_pixel_size_is_set(docks: Docks, data: Path) -> None:
    open_slide_of(docks, data / "slides" / "boxes.tiff")
    drawn = docks.viewer.add_shapes(SQUARE, name="drawn", affine=[[1, 0, 8], [0, 1, 4], [0, 0, 1]])
    physical = docks.viewer.add_points(SQUARE, name="physical", units=("um", "um"))
    before = outline(drawn)
    docks.slide.mpp.setValue(0.25)
    docks.slide.mpp_button.click()
    docks.idle()
    assert drawn in docks.viewer.layers
    np.testing.assert_allclose(outline(drawn), before * 0.25)
    np.testing.assert_allclose(outline(physical)[0], SQUARE.min(axis=0))
    assert {str(unit) for layer in (drawn, physical) for unit in layer.units} == {"micrometer"}


def test_a_drawing_under_the_map_is_under_the_next_map_too(
    asked: Docks, coded_slide: Path, small_slide: Path, features: Path
) -> None:
    under = asked.viewer.add_shapes(SQUARE, name="under")
    over = asked.viewer.add_points(SQUARE, name="over")
    layers = asked.viewer.layers
    layers.move(layers.index(under), layers.index("attention"))
    before = [layer.name for layer in layers]
    assert before[-3:] == ["under", "attention", "over"]
    open_slide_of(asked, coded_slide)
    open_slide_of(asked, small_slide)
    asked.slide.tissue_button.click()
    asked.idle()
    asked.slide.features.open(features)
    asked.idle()
    asked.explain.run()
    asked.idle()
    assert [layer.name for layer in layers] == before
    assert layers[-1] is over


def test_a_copy_of_the_slides_layer_comes_back_with_the_file_that_is_open(
    docks: Docks, small_slide: Path, coded_slide: Path
) -> None:
    open_slide_of(docks, small_slide)
    copy = Layer.create(*docks.viewer.layers["slide 3957"].as_layer_data_tuple())
    copy.gamma = 0.5
    docks.viewer.add_layer(copy)
    seen = np.asarray(copy.data[0][100:110, 100:110])
    open_slide_of(docks, coded_slide)
    open_slide_of(docks, small_slide)
    assert copy in docks.viewer.layers
    assert copy.gamma == 0.5
    np.testing.assert_array_equal(np.asarray(copy.data[0][100:110, 100:110]), seen)


def toggle(layer: Layer) -> None:
    """Run napari's own command, as the menu Layers, Measure does."""
    PluginManager.instance().commands.execute("napari.toggle_shape_measures", args=(layer,))


def test_napari_measures_shapes_in_um_of_the_slide(docks: Docks, small_slide: Path) -> None:
    open_slide_of(docks, small_slide)
    layer = docks.viewer.add_shapes([SQUARE, SQUARE[:2]], shape_type=["rectangle", "line"])
    toggle(layer)
    um = 100 * 0.499
    assert layer.features["_perimeter"].tolist() == pytest.approx([4 * um, um])
    assert layer.features["_area"].tolist() == pytest.approx([um**2, 0])
    assert layer.text.values.tolist() == ["P = 199.6 µm\nA = 2,490 µm²", "L = 49.9 µm"]
    layer.add_ellipses(SQUARE * 10)
    layer.data = [SQUARE * 2, *layer.data[1:]]
    assert layer.text.values.tolist() == [
        "P = 399.2 µm\nA = 9,960 µm²",
        "L = 49.9 µm",
        "P = 1.57 mm\nA = 0.196 mm²",
    ]
    toggle(layer)
    assert not {"_perimeter", "_area", "_measures"} & set(layer.features.columns)
    layer.data = [SQUARE]
    toggle(layer)
    assert layer.text.values.tolist() == ["P = 199.6 µm\nA = 2,490 µm²"]


def test_without_a_pixel_size_shapes_measure_in_pixels(docks: Docks, data: Path) -> None:
    open_slide_of(docks, data / "slides" / "boxes.tiff")
    layer = docks.viewer.add_shapes(SQUARE)
    toggle(layer)
    assert layer.text.values.tolist() == ["P = 400 px\nA = 10,000 px²"]
    docks.slide.mpp.setValue(0.25)
    docks.slide.mpp_button.click()
    docks.idle()
    assert layer.text.values.tolist() == ["P = 100.0 µm\nA = 625 µm²"]


def test_measures_hold_for_hollow_and_crossing_polygons_and_slanted_ellipses() -> None:
    hollow = np.array([[0.0, 0], [0, 4], [4, 4], [4, 0], [2, 3]])
    assert measure("polygon", hollow)[1] == pytest.approx(10)
    bow = np.array([[0.0, 0], [2, 2], [2, 0], [0, 2]])
    assert measure("polygon", bow)[1] == pytest.approx(2)
    box = np.array([[0.0, 0], [0, 2], [2, 2], [2, 0]])
    assert measure("ellipse", box) == pytest.approx((2 * np.pi, np.pi))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    long = np.array([[0.0, 0], [0, 8], [2, 8], [2, 0]]) @ turn
    angle = np.linspace(0, 2 * np.pi, 100_001)
    steps = np.diff(np.stack([4 * np.cos(angle), np.sin(angle)]), axis=1)
    assert measure("ellipse", long) == pytest.approx((np.hypot(*steps).sum(), 4 * np.pi))
    assert measure("path", box) == (6.0, None)
    assert measure("polygon", box[:2])[1] == 0
    assert measure_words(999.0, 1e5, um=True) == "P = 999.0 µm\nA = 0.100 mm²"


def test_the_second_canvas_takes_no_files_that_it_would_lose(asked: Docks) -> None:
    asked.explain.map.beside.choose("all of: branch")
    asked.wait(lambda: asked.beside.loaded)
    assert asked.beside._canvas is not None
    assert not asked.beside._canvas.acceptDrops()
