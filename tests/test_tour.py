"""The tour: every view renders on the demo study, with the models that are shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_wsimil.app.demo import MODELS, prepare_tour
from napari_wsimil.app.tour import visit
from napari_wsimil.app.tour_stops import STOPS
from napari_wsimil.learning.evaluation import finish

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.mark.timeout(900)
def test_every_view_renders_with_its_layers_and_without_a_warning(
    tmp_path: Path, qtbot: QtBot
) -> None:
    """The whole tour in one window, as the command line takes it; each picture is another."""
    study = finish(prepare_tour(tmp_path / "study"))
    pictures = finish(visit(study, tmp_path / "out"))
    assert {one.stop.name: one.amiss for one in pictures} == {one.name: "" for one in STOPS}
    seen = [np.asarray(Image.open(one.path).convert("L").resize((160, 90))) for one in pictures]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert np.abs(one.astype(int) - other).mean() > 0.2
    captions = (tmp_path / "out" / "captions.md").read_text()
    assert all(f"![{stop.name}]({stop.name}.png)" in captions for stop in STOPS)


def test_every_method_that_ships_a_model_has_a_view() -> None:
    shipped = {path.stem for path in MODELS.glob("*.safetensors")}
    assert {stop.method for stop in STOPS} >= shipped - {"persam"}
    assert len({stop.name for stop in STOPS}) == len(STOPS)
