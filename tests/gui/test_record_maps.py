"""Maps of the models that read a record, in the window; what is shipped is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.workflows.demo import MODELS, SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.clinical.schema import Record


@pytest.fixture
def record() -> Record:
    return read_schema(SCHEMA).parse({"age": "71", "ldh": "640", "fever": "true"})


def ask(docks: Docks, slide: Path, features: Path, method: str, record: Record | None) -> None:
    docks.ask(slide, features, MODELS / f"{method}.safetensors")
    if record is not None:
        docks.pane.record_state.record = record
        docks.explain.run()
        docks.idle()


def test_persam_shows_absolute_maps_of_each_class_that_are_never_stretched(
    docks: Docks, small_slide: Path, features: Path, record: Record
) -> None:
    ask(docks, small_slide, features, "persam-live", record)
    box = docks.explain.map
    names = [box.maps.itemText(i) for i in range(box.maps.count())]
    for name in ("attention", "explanatory", "exploratory", "class-wise: A", "explanatory: C"):
        assert name in names
    docks.pane.show_map("explanatory: 2")
    box.stretch.setCurrentIndex(2)
    box.stretch.activated.emit(2)
    layer = docks.viewer.layers["explanatory: C"]
    assert tuple(layer.contrast_limits) == (0, 1)
    prediction = docks.pane.prediction
    assert prediction is not None
    scores = next(m.scores for m in prediction.explanations if m.name == "explanatory: 2")
    assert np.nanmax(layer.data) == pytest.approx(float(scores.max()), rel=1e-5)
    facts = docks.explain.facts.table
    assert [facts.item(i, 0).text() for i in range(3)] == ["phi: A", "phi: B", "phi: C"]
    box.beside.choose("all of: class-wise")
    assert [one.name for one in docks.beside.model.layers][1::2] == [
        f"class-wise: {c}: 0 to 1" for c in "ABC"
    ]


def test_another_record_gives_other_maps_and_none_is_warned_of(
    docks: Docks, small_slide: Path, features: Path, record: Record
) -> None:
    ask(docks, small_slide, features, "persam-live", None)
    assert "all its fields are missing" in docks.explain.warnings.text()
    prediction = docks.pane.prediction
    assert prediction is not None
    without = prediction.explanations[0].scores
    docks.pane.record_state.record = record
    docks.explain.run()
    docks.idle()
    assert "all its fields are missing" not in docks.explain.warnings.text()
    assert docks.pane.prediction is not None
    assert not np.allclose(docks.pane.prediction.explanations[0].scores, without)


def test_bd_shows_both_branches_and_their_difference_around_zero(
    docks: Docks, small_slide: Path, features: Path, record: Record
) -> None:
    ask(docks, small_slide, features, "bd", record)
    docks.pane.show_map("attention difference")
    layer = docks.viewer.layers["attention difference"]
    low, high = layer.contrast_limits
    assert low == -high
    prediction = docks.pane.prediction
    assert prediction is not None
    maps = {one.name: one for one in prediction.explanations}
    gap = maps["multi-modal attention"].scores - maps["single-modal attention"].scores
    assert np.nanmax(np.abs(layer.data)) == pytest.approx(
        float(gap.abs().max()) * len(gap), rel=1e-4
    )
    docks.explain.map.beside.choose("all of: branch")
    assert len(docks.beside.model.layers) == 4
    words = docks.explain.facts.table
    rows = {words.item(i, 0).text() for i in range(words.rowCount())}
    assert {"multi-modal: A", "single-modal: A", "what the record changes"} <= rows
