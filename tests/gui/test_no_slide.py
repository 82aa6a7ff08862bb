"""Features whose slide is not there: they train, and show their map on a blank grid."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from windows import result_of, save_untrained

from napari_wsimil.explain.export import export_map
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.store import load_bag
from napari_wsimil.gui.text import caption, values_of
from napari_wsimil.gui.view_state import Display
from napari_wsimil.models import create_model
from napari_wsimil.slides.placeholder import blank_slide, is_blank, made_up_grid
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.workflows.load_features import blank_job

if TYPE_CHECKING:
    from pathlib import Path

    from windows import Docks


@pytest.fixture(scope="session")
def placeless(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real slide's features without their coordinates."""
    bag = load_bag(features)
    path = tmp_path_factory.mktemp("placeless") / "alone.h5"
    with h5py.File(path, "w") as file:
        file["features"] = bag.features.numpy()
        file["features"].attrs["encoder"] = bag.encoder
    return path


def test_made_up_places_lie_row_by_row_in_a_square() -> None:
    grid = made_up_grid(7)
    assert (grid.coords // grid.stride).tolist() == [
        [0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 2],
    ]  # fmt: skip
    assert grid.made_up
    assert [len(made_up_grid(n).coords) for n in (0, 1, 9, 10)] == [0, 1, 9, 10]
    assert made_up_grid(9).coords.max() == 2 * grid.stride


def test_a_blank_slide_is_as_large_as_its_patches_need_and_gray_at_every_size() -> None:
    slide = blank_slide(replace(made_up_grid(30), patch_size=300), "x")
    assert is_blank(slide)
    assert slide.dimensions == (5 * 256 + 300, 4 * 256 + 300)
    assert not slide.resolution.known
    picture, _ = slide.thumbnail(256)
    assert set(np.unique(picture).tolist()) == {222}
    assert set(np.unique(slide.read_patch(1200, 900, 256, 64)).tolist()) == {222}


def test_a_blank_slide_has_the_size_and_pixel_that_the_features_state(features: Path) -> None:
    laid = result_of(blank_job(features))
    slide, bag = laid.slide, laid.bag
    assert slide.dimensions == (2220, 2967)
    assert slide.resolution.mpp == pytest.approx(0.499)
    assert bag.slide == slide.fingerprint
    assert bag.grid is not None
    assert not bag.grid.made_up


def test_a_model_that_needs_places_refuses_made_up_ones(placeless: Path) -> None:
    bag = result_of(blank_job(placeless)).bag
    model = create_model("transmil", feature_dim=bag.features.shape[1], classes=2)
    with pytest.raises(ValueError, match="needs places"):
        model(bag)


def test_nothing_is_exported_at_made_up_places(
    placeless: Path, checkpoint: Path, tmp_path: Path
) -> None:
    model, card = load_checkpoint(checkpoint)
    bag = result_of(blank_job(placeless)).bag
    with pytest.raises(ValueError, match="no coordinates"):
        export_map(predict(model, card, bag), tmp_path / "map.geojson")


def test_the_picture_says_that_there_is_no_slide_and_no_places(
    placeless: Path, features: Path, checkpoint: Path
) -> None:
    model, card = load_checkpoint(checkpoint)
    laid = result_of(blank_job(placeless))
    slide, bag = laid.slide, laid.bag
    found = predict(model, card, bag)
    words = caption(slide, found, Display()).replace("\n", " ")
    assert "NO SLIDE: patches on a blank grid" in words
    assert "NOT PLACES" in words
    assert "its place is not known" in values_of(found, Display(), 0)
    laid = result_of(blank_job(features))
    slide, bag = laid.slide, laid.bag
    words = caption(slide, predict(model, card, bag), Display())
    assert "NO SLIDE" in words
    assert "NOT PLACES" not in words


@pytest.mark.parametrize("places", ["places", "none"])
def test_the_window_shows_the_map_on_a_blank_grid(
    docks: Docks, features: Path, placeless: Path, checkpoint: Path, places: str
) -> None:
    docks.slide.features.open(features if places == "places" else placeless)
    docks.idle()
    assert docks.pane.slide is not None
    assert is_blank(docks.pane.slide)
    assert not docks.slide.features.extract_button.isEnabled()
    assert not docks.slide.tissue_button.isEnabled()
    docks.explain.open_model(checkpoint)
    docks.idle()
    docks.explain.run()
    docks.idle()
    assert docks.explain.job.error is None
    found = docks.pane.prediction
    assert found is not None
    layer = next(one for one in docks.viewer.layers if one.name.startswith("attention"))
    assert np.isfinite(layer.data).sum() > 0
    docks.click(3)
    assert docks.pane.view_state.picked == 3
    docks.slide.features.open(features)
    docks.idle()
    assert docks.pane.slide is not None
    assert docks.pane.slide.dimensions == (2220, 2967)  # the former canvas has gone


def test_a_model_that_looks_closer_says_that_there_is_no_slide(
    docks: Docks, features: Path, tmp_path: Path
) -> None:
    docks.slide.features.open(features)
    docks.idle()
    docks.explain.open_model(save_untrained(tmp_path / "sasha.safetensors", "sasha"))
    docks.idle()
    docks.explain.run()
    docks.idle()
    assert "looks closer at the slide, and here is none" in str(docks.explain.job.error)


def test_features_without_a_slide_train(features: Path, placeless: Path, tmp_path: Path) -> None:
    from napari_wsimil.cli.main import main

    rows = ["patient_id,slide_id,feature_path,split,label"]
    for number, split in enumerate(("train", "train", "validation", "test")):
        path = tmp_path / f"s{number}.h5"
        shutil.copy((features, placeless)[number // 2], path)
        with h5py.File(path, "r+") as file:
            file["features"][...] += number
            file.attrs.pop("content_sha256", None)  # features of an earlier version
            file["features"].attrs.pop("sealed", None)
        rows.append(f"P{number},s{number},{path},{split},{'AB'[number % 2]}")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    torch.manual_seed(0)
    out = tmp_path / "m.safetensors"
    assert main(["train", str(tmp_path / "cohort.csv"), "-o", str(out), "--model", "abmil",
                 "--epochs", "1"]) == 0  # fmt: skip
    assert out.exists()


def test_the_dock_shows_the_passport_of_features_of_another_tool(
    docks: Docks, small_slide: Path, data: Path
) -> None:
    docks.slide.open(small_slide)
    docks.idle()
    folder = data / "slides" / "CMU-1-Small-Region_wsidata"
    docks.slide.features.open(folder / "CMU-1-Small-Region.zarr")
    docks.idle()
    box = docks.slide.features
    assert (
        "Passport (LazySlide): edges passed, stride passed, tissue passed, number passed"
        in box.passport.text()
    )
    assert "100% of patches are on tissue" in box.passport.toolTip()
    assert "named by the file, unverified" in box.passport.toolTip()
    assert docks.pane.slide is not None
    grid = docks.pane.grid
    assert grid is not None
    docks.pane.show_grid(replace(grid))
    assert not box.passport.isVisibleTo(box)  # nothing is there that it is of


def test_features_that_miss_the_tissue_are_not_laid_on_the_slide(
    docks: Docks, small_slide: Path, features: Path, tmp_path: Path
) -> None:
    bag = load_bag(features)
    row = np.stack([8 * np.arange(len(bag)), np.zeros(len(bag))], axis=1)  # along the top edge
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = bag.features.numpy()
        file["coords"] = row.astype(int)
        file["coords"].attrs.update(patch_size=224, patch_size_level0=8, overlap=0)
    docks.slide.open(small_slide)
    docks.idle()
    docks.slide.features.open(tmp_path / "a.h5")
    docks.idle()
    assert "a.h5: tissue check: 0% of patches are on tissue" in str(docks.slide.job.error)
    assert docks.pane.bag is None
