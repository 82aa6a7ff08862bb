"""Several attentions of one model in the window: concentration, overlap, disagreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from windows import Docks


@pytest.fixture
def tab(asked: Docks) -> Docks:
    asked.viewer.window._qt_window.show()  # tables are filled when they are seen
    asked.explain.tabs.setCurrentWidget(asked.explain.attention)
    asked.explain.attention._show()
    asked.wait(lambda: asked.explain.attention.facts.rowCount() > 0)
    return asked


def test_each_attention_tells_on_how_many_patches_it_lies(tab: Docks) -> None:
    facts = tab.explain.attention.facts
    names = [facts.item(row, 0).text() for row in range(facts.rowCount())]
    assert names == ["attention", *(f"branch {m}" for m in range(1, 6))]
    assert tab.pane.prediction is not None
    a = tab.pane.prediction.explanations[1].scores.numpy().astype(float)
    entropy = -sum(x * np.log(x) for x in a if x > 0)
    assert facts.item(1, 1).text() == f"{np.exp(entropy):.3g} of {len(a)}"
    assert facts.item(1, 2).text() == f"{entropy:.2f} nats"
    facts.cellClicked.emit(2, 0)
    assert "branch 2" in tab.names()


def test_overlap_is_of_each_pair_and_whole_with_itself(tab: Docks) -> None:
    table = tab.explain.attention.overlaps
    assert (table.rowCount(), table.columnCount()) == (5, 6)
    assert [table.item(i, i + 1).text() for i in range(5)] == ["100%"] * 5
    assert table.item(0, 2).text() == table.item(1, 1).text()


def test_disagreement_is_a_map_and_branches_lie_beside(tab: Docks) -> None:
    tab.explain.attention.differ.click()
    layer = tab.viewer.layers["disagreement"]
    assert tab.pane.prediction is not None
    maps = [one.scores.numpy() for one in tab.pane.prediction.explanations[1:6]]
    spread = np.std([a * len(a) for a in maps], axis=0)
    assert np.nanmax(layer.data) == pytest.approx(spread.max(), rel=1e-4)
    assert layer.contrast_limits[0] == 0
    tab.explain.attention.beside.click()
    assert tab.explain.map.beside.choice.currentText() == "all of: branch"
    assert len(tab.beside.model.layers) == 10
    tab.explain.run()
    tab.idle()
    assert "disagreement" not in tab.names()
