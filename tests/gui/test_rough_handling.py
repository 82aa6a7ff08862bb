"""Rough handling: the window stays alive, says what happened and shows nothing false."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from qtpy.compat import isalive
from windows import Docks, handles, save_untrained

from napari_wsimil.features.store import load_bag, save_bag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer
    from pytestqt.qtbot import QtBot


def test_a_click_before_anything_was_asked_does_nothing(docks: Docks, small_slide: Path) -> None:
    docks.slide.open(small_slide)
    docks.idle()
    docks.presenter.picking.pick(500.0, 500.0)
    assert docks.pane.view_state.picked is None
    assert docks.pane.view_state.area is None
    assert docks.presenter.describe(50.0, 50.0) == "x 50 µm, y 50 µm"


def test_a_model_for_another_encoder_is_refused_by_name(
    asked: Docks, features: Path, tmp_path: Path
) -> None:
    other = replace(load_bag(features), encoder="uni@1234")
    save_bag(tmp_path / "other.h5", other)
    asked.slide.features.open(tmp_path / "other.h5")
    asked.idle()
    assert asked.pane.prediction is None
    asked.explain.run()
    asked.idle()
    assert "uni@1234" in str(asked.explain.job.error)
    assert asked.pane.prediction is None
    assert "attention" not in asked.names()
    assert asked.explain.run_button.isEnabled()


def test_features_without_places_give_an_answer_and_no_map(asked: Docks, features: Path) -> None:
    asked.pane.show_bag(replace(load_bag(features), grid=None))
    asked.explain.run()
    asked.idle()
    assert asked.pane.prediction is not None
    assert "attention" not in asked.names()
    asked.presenter.picking.pick(500.0, 500.0)
    assert asked.pane.view_state.picked is None
    asked.explain.effect.top.click()
    asked.idle()
    assert "Without the first" in asked.explain.effect.words.text()


def test_a_slide_closed_while_a_model_looks_at_it_ends_the_run(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    docks.ask(small_slide, features, save_untrained(tmp_path / "s.safetensors", "sasha"))
    docks.explain.run()
    docks.wait(lambda: docks.explain.job.label.text() == "looking")
    docks.viewer.layers.remove("slide 3957")
    docks.wait(lambda: docks.pane.slide is None)
    docks.idle()
    assert "slide was closed" in str(docks.explain.job.error)
    assert handles(small_slide) == 0
    assert docks.pane.prediction is None
    assert docks.names() == []
    docks.slide.open(small_slide)
    docks.idle()
    assert docks.names() == ["slide 3957 (overview)", "slide 3957"]


def test_layers_deleted_by_hand_while_looks_are_shown_come_back(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    docks.ask(small_slide, features, save_untrained(tmp_path / "s.safetensors", "sasha"))
    steps = docks.explain.steps
    steps.player.go(4)
    docks.wait(lambda: not steps.replaying.busy)
    for name in ("path of looks", "order so far", "look 4 of 7"):
        matching = [one for one in docks.names() if one.startswith(name[:8])]
        docks.viewer.layers.remove(matching[0])
    steps.player.go(5)
    docks.wait(lambda: not steps.replaying.busy)
    assert "path of looks" in docks.names()
    assert "order so far" in docks.names()


def test_closing_the_window_while_looks_are_played_ends_quietly(
    make_napari_viewer: Callable[[], Viewer],
    qtbot: QtBot,
    small_slide: Path,
    features: Path,
    tmp_path: Path,
) -> None:
    docks = Docks(make_napari_viewer(show=True), qtbot)
    docks.ask(small_slide, features, save_untrained(tmp_path / "s.safetensors", "sasha"))
    docks.explain.tabs.setCurrentWidget(docks.explain.steps)
    player = docks.explain.steps.player
    player.play.setChecked(True)
    docks.wait(lambda: player.step >= 1)
    docks.viewer.close()
    qtbot.waitUntil(lambda: not isalive(player) or not player.play.isChecked(), timeout=1000)


def test_an_answer_that_comes_late_is_not_shown_on_another_prediction(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    docks.ask(small_slide, features, save_untrained(tmp_path / "q.safetensors", "querent"))
    docks.click(5)
    docks.pane.show_bag(docks.pane.bag)
    docks.wait(lambda: not docks.explain.ask.asking.busy)
    assert docks.pane.prediction_state.extras == {}
    assert docks.pane.prediction is None


@pytest.mark.parametrize("ending", ["csv", "geojson"])
def test_an_export_holds_the_answers_that_are_shown(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path, ending: str
) -> None:
    shape = {"region_size": 4, "top_regions": 2}
    docks.ask(small_slide, features, save_untrained(tmp_path / "q.safetensors", "querent", **shape))
    docks.click(5)
    docks.wait(lambda: not docks.explain.ask.asking.busy)
    docks.explain.map.export(tmp_path / f"map.{ending}")
    docks.idle()
    text = (tmp_path / f"map.{ending}").read_text()
    assert "attention of the query" in text
    if ending == "geojson":
        tiles = [one["properties"]["measurements"] for one in json.loads(text)["features"]]
        asked = [one["attention of the query"] for one in tiles]
        assert 0 < asked.count("NaN") < len(tiles)
