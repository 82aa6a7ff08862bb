"""The looks of a model that looks step by step, in the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from windows import save_untrained

from napari_wsimil.explain.trajectory import Looks, cost_words, trajectory_of
from napari_wsimil.models.protocols import SequentialModel

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks

    from napari_wsimil.models.trajectory import Trajectory


@pytest.fixture(scope="session")
def sasha(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained SASHA that looks at a fifth of the patches."""
    path = tmp_path_factory.mktemp("sasha") / "sasha.safetensors"
    return save_untrained(path, "sasha", tau=0.97)


@pytest.fixture
def looked(docks: Docks, small_slide: Path, features: Path, sasha: Path) -> Docks:
    """The real slide, explored live: its sub-patches are read where the model looks."""
    docks.ask(small_slide, features, sasha)
    return docks


def path_of(docks: Docks) -> Trajectory:
    found = trajectory_of(docks.pane.prediction)
    assert found is not None
    return found


def go(docks: Docks, step: int) -> None:
    docks.explain.steps.player.go(step)
    docks.wait(lambda: not docks.explain.steps.replaying.busy)


def test_a_live_run_shows_its_path_and_counts_every_call_of_the_encoder(looked: Docks) -> None:
    path = path_of(looked)
    n = path.patches
    assert len(path.looks) == -(-n // 5)
    assert looked.viewer.layers["path of looks"].data.shape[0] == len(path.looks) - 1
    words = looked.explain.steps.words.text()
    calls = n + 16 * len(path.looks)
    assert f"The encoder processed {n} patches and {16 * len(path.looks)} sub-patches" in words
    assert f": {calls / (16 * n):.0%} of the {16 * n:,}" in words
    assert not looked.explain.tabs.isTabVisible(looked.explain.tabs.indexOf(looked.explain.ask))


def test_scrubbing_shows_the_maps_the_path_and_the_frame_of_that_look(looked: Docks) -> None:
    path, pane = path_of(looked), looked.pane
    go(looked, 4)
    assert (looked.viewer.layers["path of looks"].edge_color[:, 3] > 0).sum() == 3
    assert f"look 4 of {len(path.looks)}" in looked.names()
    assert "order so far" in looked.names()
    layer = looked.viewer.layers["order so far"]
    assert np.isfinite(layer.data).sum() > 0
    assert set(layer.data[np.isfinite(layer.data)]) == {1, 2, 3, 4}
    assert pane.model is not None
    assert pane.prediction is not None
    assert isinstance(pane.model.model, SequentialModel)
    expected = pane.model.model.outcome(pane.prediction.bag, path.looks[:4])
    shown = {one.name: one for one in pane.prediction_state.extras["step"]}
    torch.testing.assert_close(shown["attention so far"].scores, expected.explanations[0].scores)
    assert float(shown["policy of the next look"].scores.sum()) == pytest.approx(1, abs=1e-5)
    next_look = int(path.order[4])
    assert int(shown["policy of the next look"].scores.argmax()) == next_look
    updated = shown["updated by this look"]
    assert updated.outlined
    assert updated.scores.nonzero()[:, 0].tolist() == sorted(path.looks[3].updated.tolist())
    unseen = int((~torch.isin(torch.arange(path.patches), path.order[:4])).nonzero()[0])
    assert pane.prediction.bag.grid is not None
    x, y = (pane.prediction.bag.grid.coords[unseen] + 9) * 0.499
    assert "not examined" in looked.presenter.describe(y, x)
    assert "clear: not examined" in looked.viewer.canvas.overlays.text.text


def test_the_map_that_is_looked_at_stays_from_step_to_step(looked: Docks) -> None:
    go(looked, 3)
    looked.pane.show_map("policy of the next look")
    go(looked, 5)
    assert "policy of the next look" in looked.names()
    looked.explain.steps.player.back.click()
    looked.wait(lambda: not looked.explain.steps.replaying.busy)
    assert looked.pane.view_state.looks == 4
    looked.explain.steps.player.forth.click()
    assert looked.pane.view_state.looks == 5
    go(looked, 0)
    assert "path of looks" not in looked.names()
    assert "Before the first step" in looked.explain.steps.words.text()


def test_playing_goes_on_to_the_end_and_pauses(looked: Docks) -> None:
    player, steps = looked.explain.steps.player, len(path_of(looked).looks)
    seen: list[int] = []
    player.moved.connect(seen.append)
    player.speed.setCurrentIndex(4)
    player.play.setChecked(True)
    looked.wait(lambda: player.step >= 3)
    player.play.setChecked(False)
    at = player.step
    assert seen[: at + 1] == list(range(at + 1))
    player.play.setChecked(True)
    looked.wait(lambda: not player.play.isChecked())
    assert player.step == steps
    looked.wait(lambda: not looked.explain.steps.replaying.busy)


def test_sub_patches_are_shown_inside_the_patches_looked_at(looked: Docks) -> None:
    go(looked, 2)
    looked.explain.steps.fine.setChecked(True)
    layer = looked.viewer.layers["inside looks, × uniform within the patch"]
    path = path_of(looked)
    assert looked.pane.prediction is not None
    grid = looked.pane.prediction.bag.grid
    assert grid is not None
    x, y = grid.coords[path.looks[1].patch].tolist()
    part = grid.patch_size / 4
    for right in range(4):
        for down in range(4):
            place = ((y + (down + 0.5) * part) * 0.499, (x + (right + 0.5) * part) * 0.499)
            expected = float(path.looks[1].attention[4 * right + down]) * 16
            assert layer.get_value(place, world=True) == pytest.approx(expected, rel=1e-5)
    looked.explain.steps.fine.setChecked(False)
    assert "inside looks, × uniform within the patch" not in looked.names()


def test_the_camera_follows_only_on_request(looked: Docks) -> None:
    looked.presenter.camera.magnify(40.0)
    before = looked.viewer.scene.camera.center
    go(looked, 1)
    assert looked.viewer.scene.camera.center == before
    looked.explain.steps.follow.setChecked(True)
    grid = looked.pane.places
    assert grid is not None
    far = max(
        range(2, len(path_of(looked).looks)),
        key=lambda step: np.abs(
            grid.coords[path_of(looked).looks[step - 1].patch] * 0.499 - before[:0:-1]
        ).max(),
    )
    go(looked, far)
    patch = path_of(looked).looks[far - 1].patch
    center = (grid.coords[patch] + grid.patch_size / 2) * 0.499
    np.testing.assert_allclose(looked.viewer.scene.camera.center[-2:], center[::-1])
    looked.explain.steps.follow.setChecked(False)


def test_a_run_that_is_stopped_leaves_what_was_seen_and_says_so(
    docks: Docks, small_slide: Path, features: Path, sasha: Path
) -> None:
    docks.ask(small_slide, features, sasha)
    whole = len(path_of(docks).looks)
    docks.explain.run()
    docks.wait(lambda: docks.explain.job.label.text() == "looking")
    docks.explain.job.cancel()
    docks.idle()
    seen = len(path_of(docks).looks)
    assert 0 < seen < whole
    assert f"so far: {seen} of {whole} looks" in docks.explain.warnings.text()
    go(docks, 0)
    assert docks.pane.view_state.looks == 0


def test_maps_of_a_step_do_not_depend_on_the_way_to_it(looked: Docks) -> None:
    pane = looked.pane
    assert pane.model is not None
    assert pane.prediction is not None
    one, other = (Looks(pane.model.model, pane.prediction) for _ in range(2))
    one.maps(7)
    for a, b in zip(one.maps(3), other.maps(3), strict=True):
        assert a.name == b.name
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=0, equal_nan=True)
    assert cost_words(path_of(looked), 0).startswith("Step 0 of")
