"""Asking where a patch or an area looks, in the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from windows import save_untrained

from napari_wsimil.explain.query import unit_table
from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.slides.geometry import Region

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks


@pytest.fixture
def querent(docks: Docks, small_slide: Path, features: Path, tmp_path: Path) -> Docks:
    """The real slide asked by an untrained Querent of regions of 2 × 2 patches, two per query."""
    model = save_untrained(
        tmp_path / "querent.safetensors", "querent", region_size=4, top_regions=2
    )
    docks.ask(small_slide, features, model)
    return docks


def settle(docks: Docks) -> None:
    docks.wait(lambda: not docks.explain.ask.asking.busy)


def test_a_click_shows_where_the_patch_looks_and_outlines_what_it_chose(querent: Docks) -> None:
    querent.click(5)
    settle(querent)
    pane = querent.pane
    assert pane.model is not None
    assert pane.prediction is not None
    expected = {
        one.name: one for one in pane.model.model.explain(pane.prediction.bag, torch.tensor([5]))
    }
    layer = querent.viewer.layers["attention of the query"]
    shown = expected["attention of the query"].times_uniform().numpy()
    assert np.nanmax(layer.data) == pytest.approx(np.nanmax(shown), rel=1e-5)
    assert np.isfinite(layer.data).sum() > 0
    assert "chosen by the query" in querent.names()
    assert querent.explain.ask.table.rowCount() == 2
    scores = expected["region score"].scores
    best = f"{float(scores.max()):.3g}"
    assert querent.explain.ask.table.item(0, 2).text() == best
    assert querent.explain.ask.table.horizontalHeaderItem(1).text() == "attention by region"


def test_the_map_that_is_looked_at_stays_when_another_patch_answers(querent: Docks) -> None:
    querent.click(5)
    settle(querent)
    querent.pane.show_map("region score")
    querent.click(9)
    settle(querent)
    assert "region score" in querent.names()
    assert querent.explain.map.maps.currentText() == "region score"
    querent.explain.ask.back.click()
    assert "attention" in querent.names()
    assert "chosen by the query" not in querent.names()
    assert querent.pane.prediction_state.extras == {}


def test_an_area_is_asked_about_as_the_mean_of_its_patches(querent: Docks) -> None:
    querent.pane.view_state.picked = None
    querent.pane.view_state.area = Region(0, 0, 2220, 900)
    settle(querent)
    pane = querent.pane
    assert pane.prediction is not None
    assert pane.prediction.bag.grid is not None
    inside = int((pane.prediction.bag.grid.coords[:, 1] < 900).sum())
    assert f"Where {inside} patches, in the mean," in querent.explain.ask.words.text()
    share = pane.prediction_state.extras["query"][-1].scores
    assert float(share.sum()) == pytest.approx(2.0)


def test_an_area_without_patches_says_so_and_shows_nothing(querent: Docks) -> None:
    querent.click(5)
    settle(querent)
    querent.pane.view_state.picked = None
    querent.pane.view_state.area = Region(0, 0, 3, 3)
    settle(querent)
    assert "no patch overlaps the 3 by 3" in querent.explain.ask.words.text()
    assert querent.pane.prediction_state.extras == {}


def test_a_new_run_forgets_the_answers(querent: Docks) -> None:
    querent.click(5)
    settle(querent)
    querent.explain.run()
    querent.idle()
    assert querent.pane.prediction_state.extras == {}
    assert querent.names()[-1] == "attention"


def test_models_that_answer_no_queries_have_no_tab_to_ask(asked: Docks) -> None:
    tabs = asked.explain.tabs
    assert not tabs.isTabVisible(tabs.indexOf(asked.explain.ask))
    asked.click(5)
    assert asked.pane.prediction_state.extras == {}


def test_longmil_shows_the_neighborhood_layer_by_layer_with_its_radius(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    model = save_untrained(tmp_path / "l.safetensors", "longmil", width=32, radius=3)
    docks.ask(small_slide, features, model)
    docks.click(20)
    settle(docks)
    assert docks.pane.prediction is not None
    grid = docks.pane.prediction.bag.grid
    assert grid is not None
    um = 3 * grid.stride * 0.499
    names = [one.name for one in docks.pane.prediction_state.extras["query"]]
    assert names[:2] == [f"attention, layer {n} (within {um:.0f} µm)" for n in (1, 2)]
    assert "neighborhood" in docks.names()
    away = np.linalg.norm((grid.coords - grid.coords[20]) / grid.stride, axis=1) > 3.01
    seen = docks.pane.prediction_state.extras["query"][0].scores.isnan().numpy()
    np.testing.assert_array_equal(seen, away)
    x, y = (grid.coords[np.flatnonzero(away)[0]] + 9) * 0.499
    assert "outside of the neighborhood" in docks.presenter.describe(y, x)


def test_a_table_of_regions_is_sorted_by_the_last_map_and_names_a_patch_of_each() -> None:
    index = torch.tensor([0, 1, 2, 2, 1])
    score = torch.tensor([3.0, 9.0, 5.0])
    maps = (
        Explanation("share", ExplanationKind.ATTENTION, torch.tensor([0.1, 0.6, 0.3]), index),
        Explanation("score", ExplanationKind.AMOUNT, score, index),
        Explanation(
            "chosen", ExplanationKind.PROBABILITY, torch.tensor([0, 1.0, 0.5]), index, outlined=True
        ),
    )
    table = unit_table(maps)
    assert table.units == (1, 2)
    assert table.patches == (1, 2)
    assert table.titles == ("share", "score")
    assert table.values == ((pytest.approx(0.6), 9.0), (pytest.approx(0.3), 5.0))
    assert unit_table(maps[:2]).units == ()
