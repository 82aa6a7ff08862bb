"""Attention or effect: what the window asks of a model without some patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from windows import save_untrained

from napari_wsimil.explain.predict import predict
from napari_wsimil.features.bag import take_patches
from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks


def settle(docks: Docks) -> None:
    docks.idle()


def test_without_the_first_patches_the_model_is_asked_again(asked: Docks) -> None:
    tab, pane = asked.explain.effect, asked.pane
    tab.share.setValue(10)
    tab.top.click()
    settle(asked)
    prediction, model = pane.prediction, pane.model
    assert prediction is not None
    assert model is not None
    n = len(prediction.bag)
    order = prediction.explanations[0].scores.argsort(descending=True)
    kept = order[round(0.1 * n) :].sort().values
    again = predict(model.model, model.card, take_patches(prediction.bag, kept))
    before, after = float(prediction.probabilities[0]), float(again.probabilities[0])
    assert f"normal: {before:.1%} → <b>{after:.1%}</b>" in tab.words.text()
    assert f"{n - len(kept)} patches" in tab.words.text()
    (outline,) = pane.prediction_state.extras["removed"]
    assert set(outline.scores.nonzero()[:, 0].tolist()) == set(order[: n - len(kept)].tolist())
    assert "left out" in asked.names()
    assert "attention" in asked.names()


def test_an_area_is_left_out_and_the_whole_slide_cannot_be(asked: Docks) -> None:
    tab = asked.explain.effect
    assert not tab.area.isEnabled()
    assert "Shift" in tab.area.toolTip()
    asked.pane.view_state.area = Region(0, 0, 2220, 900)
    tab.area.click()
    settle(asked)
    assert "Without the area" in tab.words.text()
    asked.pane.view_state.area = Region(0, 0, 2220, 2967)
    tab.area.click()
    settle(asked)
    assert "leaves nothing to predict" in tab.words.text()
    asked.pane.view_state.area = Region(0, 0, 2, 2)
    tab.area.click()
    assert "no patch overlaps" in tab.words.text()


def test_a_clicked_patch_is_left_out_alone_and_put_back(asked: Docks) -> None:
    tab = asked.explain.effect
    asked.click(5)
    tab.area.click()
    settle(asked)
    assert "Without patch 6, 1 patches" in tab.words.text()
    assert asked.pane.prediction_state.extras["removed"][0].scores.nonzero()[:, 0].tolist() == [5]
    tab.back.click()
    assert "left out" not in asked.names()
    assert tab.words.text() == ""


def test_curves_are_drawn_of_the_map_and_the_outcome_that_are_chosen(asked: Docks) -> None:
    tab = asked.explain.effect
    tab.outcome.setCurrentIndex(0)
    tab.draw.click()
    asked.idle()
    (axes,) = tab.plot.figure.axes
    assert "“attention”" in axes.get_xlabel()
    assert axes.get_ylabel() == "probability of normal"
    deletion = axes.lines[1].get_xydata()
    prediction = asked.pane.prediction
    assert prediction is not None
    assert deletion[0].tolist() == [0.0, pytest.approx(float(prediction.probabilities[0]))]
    assert deletion[-1][0] == pytest.approx(90, abs=2)
    insertion = axes.lines[3].get_xydata()
    assert insertion[-1].tolist() == [100.0, pytest.approx(float(prediction.probabilities[0]))]


def test_vib_shows_selection_what_was_kept_and_attention_apart(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    model = save_untrained(tmp_path / "vib.safetensors", "vib", keep=5)
    docks.ask(small_slide, features, model)
    layer = docks.viewer.layers["selection"]
    assert tuple(layer.contrast_limits) == (0, 1)
    assert "kept" in docks.names()
    prediction = docks.pane.prediction
    assert prediction is not None
    kept = prediction.explanations[1]
    assert int(kept.scores.sum()) == 5
    docks.pane.show_map("attention")
    layer = docks.viewer.layers["attention"]
    assert np.nanmean(prediction.explanations[2].times_uniform().numpy()) == pytest.approx(1)
    dropped = int((kept.scores == 0).nonzero()[0])
    assert prediction.bag.grid is not None
    x, y = (prediction.bag.grid.coords[dropped] + 9) * 0.499
    assert docks.presenter.describe(y, x).endswith("attention: dropped")
    docks.explain.map.outlined.setChecked(False)
    assert "kept" not in docks.names()
    rows = docks.explain.facts.table
    assert [rows.item(0, i).text() for i in range(2)] == ["kept", "5"]


def test_a_new_run_forgets_what_was_asked_without_patches(asked: Docks) -> None:
    asked.explain.effect.top.click()
    settle(asked)
    asked.explain.run()
    asked.idle()
    assert asked.explain.effect.words.text() == ""
    assert "left out" not in asked.names()
    assert torch.isfinite(asked.pane.prediction.probabilities).all()
