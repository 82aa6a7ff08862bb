"""The window on a real path: open, ask, look, cancel, close while busy."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from napari.settings import get_settings
from windows import Docks, result_of

from napari_wsimil.explain.color_scale import Stretch, scaled
from napari_wsimil.features.store import save_bag
from napari_wsimil.progress import Progress
from napari_wsimil.slides.geometry import MppSource, SlideError
from napari_wsimil.slides.lazy_array import TooLargeError
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.workflows.analysis import analyze_job
from napari_wsimil.workflows.pipeline import model_job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot

    from napari_wsimil.progress import Work


def test_a_real_slide_gets_a_map_with_its_words(asked: Docks) -> None:
    assert asked.names() == [
        "slide 3957 (overview)",
        "slide 3957",
        "not looked at",
        "attention",
    ]
    assert asked.pane.prediction is not None
    grid = asked.pane.prediction.bag.grid
    assert grid is not None
    layer = asked.viewer.layers["attention"]
    x, y = (grid.coords[7] + 100) * 0.499
    seen = layer.get_value((y, x), world=True)
    attention = asked.pane.prediction.explanations[0].scores[7] * len(grid)
    assert seen == pytest.approx(float(attention), rel=1e-5)
    assert f"patch 8 of {len(grid)}" in asked.presenter.describe(y, x)
    assert asked.presenter.describe(0.0, 0.0) == "x 0 µm, y 0 µm · outside the tissue"
    text = asked.viewer.canvas.overlays.text.text.replace("\n", " ")
    assert "× average" in text
    assert "not tumor probability" in text
    assert "trained on synthetic slides: result not meaningful" in text
    assert layer.colorbar.visible


def test_maps_change_in_place_and_never_pile_up(asked: Docks) -> None:
    layer = asked.viewer.layers["attention"]
    asked.explain.map.maps.setCurrentIndex(1)
    asked.explain.map.stretch.setCurrentIndex(2)
    asked.explain.map.maps.activated.emit(1)
    assert layer in asked.viewer.layers
    assert layer.name == "branch 1"
    assert tuple(layer.contrast_limits) == (0, 100)
    assert asked.pane.display.stretch is Stretch.RANKS
    asked.explain.map.threshold.setValue(50)
    assert np.isnan(layer.data).mean() > 0.5
    asked.explain.map.opacity.setValue(25)
    assert layer.opacity == pytest.approx(0.25)
    assert len(asked.viewer.layers) == 4


def test_another_map_is_there_at_once_where_napari_slices_in_threads(
    asked: Docks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().experimental, "async_", True)
    layer, prediction = asked.viewer.layers["attention"], asked.pane.prediction
    assert prediction is not None
    assert prediction.bag.grid is not None
    x, y = (prediction.bag.grid.coords[5] + 112) * 0.499
    for number in (len(prediction.explanations) - 1, 1):
        asked.pane.view_state.display = asked.pane.display.of(number)
        expected = scaled(prediction, number).values[5]
        assert layer.get_value((y, x), world=True) == pytest.approx(float(expected))


def test_top_patches_are_pictures_that_fly_to_their_place(asked: Docks) -> None:
    patches = asked.explain.patches
    asked.wait(lambda: patches.first.count() == 8)
    assert patches.pictures.window() is asked.explain.window()  # no window of its own
    first = asked.explain.patches.first.item(0)
    asked.explain.patches.first.itemClicked.emit(first)
    prediction = asked.pane.prediction
    assert prediction is not None
    assert prediction.bag.grid is not None
    top = int(prediction.explanations[0].scores.argmax())
    center = (prediction.bag.grid.coords[top] + 112) * 0.499
    np.testing.assert_allclose(asked.viewer.scene.camera.center[-2:], center[::-1])


def test_patches_are_outlines_where_cells_can_be_seen(asked: Docks) -> None:
    layer = asked.viewer.layers["attention"]
    asked.viewer.scene.camera.zoom = 0.5
    assert layer.opacity == pytest.approx(0.6)
    asked.viewer.scene.camera.center = (0.0, 600.0, 500.0)
    asked.viewer.scene.camera.zoom = 2.0
    assert layer.opacity == 0
    outlines = asked.viewer.layers["attention (outlines)"]
    assert outlines.visible
    asked.viewer.scene.camera.zoom = 0.5
    assert layer.opacity == pytest.approx(0.6)
    assert not outlines.visible
    asked.viewer.scene.camera.zoom = 2.0
    assert outlines.visible
    assert outlines is asked.viewer.layers["attention (outlines)"]
    asked.pane.show_tissue(asked.pane.tissue)
    assert outlines not in asked.viewer.layers


def test_a_held_key_hides_the_map(asked: Docks) -> None:
    layer = asked.viewer.layers["attention"]
    asked.viewer.scene.camera.zoom = 0.5
    held = asked.presenter._hide_while_held(asked.viewer)
    next(held)
    assert not layer.visible
    next(held, None)
    assert layer.visible


def test_another_slide_clears_the_map_and_puts_other_layers_away(
    asked: Docks, coded_slide: Path
) -> None:
    mine = asked.viewer.add_points(np.zeros((1, 2)), name="mine")
    asked.slide.open(coded_slide)
    asked.idle()
    assert asked.pane.prediction is None
    assert mine not in asked.viewer.layers
    assert len(asked.viewer.layers) == 2


def test_a_layer_deleted_by_hand_comes_back_with_the_next_run(asked: Docks) -> None:
    asked.viewer.layers.remove("attention")
    asked.explain.run()
    asked.idle()
    assert "attention" in asked.names()


def test_what_is_no_slide_leaves_everything_as_it_was(asked: Docks, data: Path) -> None:
    before, slide = asked.names(), asked.pane.slide
    asked.slide.open(data / "malformed" / "broken.svs")
    asked.idle()
    assert asked.names() == before
    assert asked.pane.slide is slide


def test_a_slide_whose_file_is_gone_leaves_the_window_alive(
    docks: Docks, small_slide: Path, checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "moved.svs"
    path.write_bytes(small_slide.read_bytes())
    docks.slide.open(path)
    docks.idle()
    docks.explain.open_model(checkpoint)
    docks.idle()
    path.unlink()
    docks.explain.run()
    docks.idle()
    assert docks.pane.prediction is None
    assert docks.explain.run_button.isEnabled()
    docks.slide.open(small_slide)
    docks.idle()
    assert docks.names() == ["slide 3957 (overview)", "slide 3957"]


def test_features_of_another_slide_are_refused(
    asked: Docks, coded_slide: Path, tmp_path: Path
) -> None:
    assert asked.pane.bag is not None
    save_bag(tmp_path / "bag.h5", replace(asked.pane.bag, slide="0123456789abcdef"))
    bag = asked.pane.bag
    asked.slide.features.open(tmp_path / "bag.h5")
    asked.idle()
    assert asked.pane.bag is bag


def endless(stopped: threading.Event) -> Work[None]:
    """A job with a thread of its own, which ends when the job is closed."""
    done = threading.Event()
    helper = threading.Thread(target=done.wait, name="job-helper")
    helper.start()
    try:
        while not done.wait(0.02):
            yield Progress(1, 2, "working")
    finally:
        done.set()
        helper.join()
        stopped.set()


def test_cancel_takes_less_than_a_second_and_ends_the_jobs_threads(docks: Docks) -> None:
    stopped = threading.Event()
    docks.slide.job.run(endless(stopped), lambda _: None)
    docks.wait(lambda: docks.slide.job.label.text() == "working")
    docks.slide.job.cancel_button.click()
    docks.wait(lambda: not docks.slide.job.busy, seconds=1)
    assert stopped.is_set()
    assert not [one for one in threading.enumerate() if one.name == "job-helper"]


def test_a_second_job_is_refused_while_one_runs(docks: Docks) -> None:
    first, second = threading.Event(), threading.Event()
    docks.slide.job.run(endless(first), lambda _: None)
    docks.slide.job.run(endless(second), lambda _: None)
    docks.wait(lambda: docks.slide.job.label.text() == "working")
    docks.slide.job.cancel()
    docks.idle()
    assert first.is_set()
    assert not second.is_set()


def test_closing_the_window_while_busy_ends_the_job(
    make_napari_viewer: Callable[[], Viewer], qtbot: QtBot
) -> None:
    docks = Docks(make_napari_viewer(show=True), qtbot)
    stopped = threading.Event()
    docks.slide.job.run(endless(stopped), lambda _: None)
    docks.wait(lambda: docks.slide.job.label.text() == "working")
    docks.viewer.close()
    qtbot.waitUntil(stopped.is_set, timeout=1000)


def test_a_pixel_size_is_asked_for_and_remembered(docks: Docks, data: Path) -> None:
    path = data / "slides" / "boxes.tiff"
    docks.slide.open(path)
    docks.idle()
    assert "unknown" in docks.slide.facts.text()
    assert not docks.slide.grid_button.isEnabled()
    assert docks.slide.grid_button.toolTip() == "Set the pixel size first"
    docks.slide.mpp.setValue(0.25)
    docks.slide.mpp_button.click()
    docks.idle()
    assert docks.pane.slide is not None
    assert docks.pane.slide.resolution.source is MppSource.USER
    docks.slide.open(path)
    docks.idle()
    assert docks.pane.slide.resolution.mpp == 0.25


def test_file_names_are_shown_only_when_asked_for(docks: Docks, small_slide: Path) -> None:
    docks.slide.open(small_slide)
    docks.idle()
    assert "CMU-1" not in docks.slide.facts.text()
    docks.slide.names.setChecked(True)
    assert "CMU-1" in docks.slide.facts.text()


def test_a_slide_opened_by_napari_is_taken_over(docks: Docks, small_slide: Path) -> None:
    docks.viewer.open(small_slide, plugin="napari-wsimil")
    docks.wait(lambda: len(docks.viewer.layers) == 2 and docks.pane.slide is not None)
    docks.idle()
    assert docks.names() == ["slide 3957 (overview)", "slide 3957"]
    assert not any("CMU" in layer.get_source_str() for layer in docks.viewer.layers)


def test_saving_and_exporting_a_slide_is_refused_with_a_sentence(
    docks: Docks, small_slide: Path, tmp_path: Path
) -> None:
    docks.slide.open(small_slide)
    docks.idle()
    with pytest.raises(TooLargeError, match="not saved as one picture"):
        docks.viewer.layers["slide 3957"].save(str(tmp_path / "slide.tif"))
    with pytest.raises(TooLargeError, match="8880 × 11872"):
        docks.viewer.export_figure(scale_factor=4)


def test_a_locked_fine_resolution_of_a_large_slide_is_refused(
    docks: Docks, wide_slide: Path
) -> None:
    docks.slide.open(wide_slide)
    docks.idle()
    with pytest.raises(TooLargeError, match="choose a coarser level"):
        docks.viewer.layers[-1].locked_data_level = 0


def test_converting_a_slide_is_refused_and_everything_stays(asked: Docks) -> None:
    actions = pytest.importorskip("napari.layers._layer_actions", reason="napari moved it")
    before = asked.names()
    asked.viewer.layers.selection.select_only(asked.viewer.layers["slide 3957"])
    with pytest.raises(TooLargeError, match="cannot be converted"):
        actions._convert_to_labels(asked.viewer.layers)
    assert asked.names() == before
    assert asked.pane.prediction is not None


def test_deleting_the_slides_layer_closes_the_slide(asked: Docks) -> None:
    slide = asked.pane.slide
    assert slide is not None
    asked.viewer.layers.selection.select_only(asked.viewer.layers["slide 3957"])
    asked.viewer.layers.remove_selected()
    asked.wait(lambda: asked.pane.slide is None)
    assert asked.names() == []
    with pytest.raises(SlideError, match="closed"):
        slide.read_region(0, 0, 8, 8)


def test_a_late_answer_is_not_laid_on_another_slide(asked: Docks, coded_slide: Path) -> None:
    """The Slide dock opens another slide while the Explain dock still asks about this one."""
    asked.pane.show_bag(None)
    asked.explain.run()
    asked.slide.open(coded_slide)
    asked.idle()
    assert asked.pane.slide is not None
    assert asked.pane.slide.path == coded_slide
    assert asked.pane.prediction is None
    assert asked.pane.bag is None
    assert asked.explain.run_button.isEnabled()


def test_a_map_hidden_by_hand_stays_hidden_while_looking_around(asked: Docks) -> None:
    layer = asked.viewer.layers["attention"]
    layer.visible = False
    asked.viewer.scene.camera.center = (0.0, 300.0, 300.0)
    asked.viewer.scene.camera.zoom *= 0.9
    assert not layer.visible


def test_a_copied_slide_layer_shows_the_same_slide(asked: Docks) -> None:
    layer = asked.viewer.layers["slide 3957"]
    twin = copy.deepcopy(layer.as_layer_data_tuple())
    assert twin[1]["metadata"]["slide"] is layer.metadata["slide"]


def test_features_are_made_saved_and_taken_up_again(
    docks: Docks, small_slide: Path, tmp_path: Path
) -> None:
    assert docks.slide.features.extract_button.toolTip() == "Create patches first"
    docks.slide.open(small_slide)
    docks.idle()
    docks.slide.grid_button.click()
    docks.idle()
    docks.slide.features.extract(tmp_path / "bag.h5")
    docks.idle()
    assert docks.pane.bag is not None
    assert "stain-texture" in docks.slide.features.facts.text()
    made = docks.pane.bag.features
    docks.slide.features.open(tmp_path / "bag.h5")
    docks.idle()
    assert docks.pane.bag.features is not made
    torch.testing.assert_close(docks.pane.bag.features, made)


def test_the_map_grows_while_features_are_made(
    docks: Docks, small_slide: Path, checkpoint: Path
) -> None:
    """Without features the whole way is gone: tissue, patches, encoder, model."""
    docks.slide.open(small_slide)
    docks.idle()
    docks.explain.open_model(checkpoint)
    docks.idle()
    seen: list[int] = []
    docks.pane.prediction_state.events.prediction.connect(
        lambda found: found and seen.append(len(found.bag))
    )
    docks.explain.run()
    docks.idle()
    assert docks.pane.grid is not None
    total = len(docks.pane.grid)
    assert seen[-1] == total
    assert 0 < seen[0] < total
    assert docks.pane.tissue is not None
    assert "so far" not in docks.viewer.canvas.overlays.text.text


def test_work_has_its_own_cache(small_slide: Path, checkpoint: Path) -> None:
    """Encoding a slide leaves the tiles that the viewer keeps alone."""
    with open_slide(small_slide) as slide:
        np.asarray(slide.arrays[-1])
        model, used = result_of(model_job(checkpoint)), slide.cache.used
        work = analyze_job(slide, model, find_tissue(slide), None)
        next(step for step in work if step.done > 8)
        work.close()
        assert slide.cache.used == used


@pytest.mark.usefixtures("mock_app_model")
def test_a_screenshot_of_what_cannot_be_opened_is_an_error(
    data: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    from napari_wsimil.gui.startup import Opening
    from napari_wsimil.gui.window import run

    with pytest.raises(SlideError, match=r"broken\.svs"):
        run(Opening(slide=data / "malformed" / "broken.svs"), screenshot=tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
