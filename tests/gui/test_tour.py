"""The tour: every view renders on the demo study, with the models that are shipped."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_wsimil.gui.tour import amiss_of
from napari_wsimil.gui.tour_stops import STOPS
from napari_wsimil.workflows.demo import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.mark.timeout(900)
def test_every_view_renders_with_its_layers_and_without_a_warning(
    tmp_path: Path, qtbot: QtBot
) -> None:
    """The whole tour as a person takes it, in a process of its own; no picture is another's."""
    command = [sys.executable, "-m", "napari_wsimil.cli.main", "tour", "--json"]
    places = ["--out", str(tmp_path / "out"), "--folder", str(tmp_path / "study")]
    done = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    names = json.loads(done.stdout[done.stdout.index("{") :])["pictures"]
    assert names == [f"{stop.name}.png" for stop in STOPS]
    pictures = [Image.open(tmp_path / "out" / name) for name in names]
    assert all(picture.size[0] >= 1366 for picture in pictures)
    seen = [np.asarray(one.convert("L").resize((160, 90))).astype(int) for one in pictures]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert np.abs(one - other).mean() > 0.2
    captions = (tmp_path / "out" / "captions.md").read_text()
    assert all(f"![{stop.name}]({stop.name}.png)" in captions for stop in STOPS)


def test_a_view_without_its_layer_is_told() -> None:
    told = amiss_of([], ["attention"], ("attention", "kept"), None, np.zeros((9, 9, 3), np.uint8))
    assert told == "no layer kept: there are attention"
    gray = np.full((9, 9, 3), 7, np.uint8)
    assert amiss_of([], ["attention"], ("attention",), None, gray) == "the canvas is empty"
    assert "broken" in amiss_of([], [], (), ValueError("broken"), gray)
    assert "toast" in amiss_of(["toast"], [], (), None, gray)
    colors = np.arange(900, dtype=np.uint8).reshape(30, 10, 3)
    assert amiss_of([], ["attention"], ("attention",), None, colors) == ""


def test_every_method_that_ships_a_model_has_a_view() -> None:
    shipped = {path.stem for path in MODELS.glob("*.safetensors")}
    assert {stop.method for stop in STOPS} >= shipped - {"persam"}
    assert len({stop.name for stop in STOPS}) == len(STOPS)
