"""Files of each tool come to the same places: level-0 pixels of the full canvas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import foreign
import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from napari_wsimil.features.importers.base import Tool
from napari_wsimil.features.importers.open import open_bag, read_stated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_wsimil.features.bag import Bag

MPP = 0.2527


def lay(bag: Bag) -> tuple[np.ndarray, int, int, int]:
    assert bag.grid is not None
    return bag.grid.coords, bag.grid.patch_size, bag.grid.stride, bag.grid.pixels


WRITERS: dict[str, tuple[Callable[[Path], Path], Tool, int]] = {
    "trident": (lambda at: foreign.trident(at / "a.h5"), Tool.TRIDENT, 256),
    "clam": (lambda at: foreign.clam(at, "a"), Tool.CLAM, 256),
    "stamp": (lambda at: foreign.stamp2(at / "a.h5", MPP), Tool.STAMP, 224),
    "lazyslide": (lambda at: foreign.lazyslide(at / "a.zarr"), Tool.LAZYSLIDE, 256),
    "lazyslide 3": (lambda at: foreign.lazyslide(at / "a.zarr", new=True), Tool.LAZYSLIDE, 256),
    "slideflow": (lambda at: foreign.slideflow(at, "a", MPP), Tool.SLIDEFLOW, 224),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_patches_come_out_of_every_tools_file(tmp_path: Path, writer: str) -> None:
    write, tool, pixels = WRITERS[writer]
    path = write(tmp_path)
    assert read_stated(path).tool is tool
    bag = open_bag(path, mpp=MPP)
    coords, size, stride, seen = lay(bag)
    assert_array_equal(coords, foreign.CORNERS)
    assert (size, stride, seen) == (512, 512, pixels)
    assert_allclose(bag.features, foreign.FEATURES, atol=1e-3)  # STAMP's are float16
    assert bag.features.dtype == torch.float32
    assert bag.grid is not None
    assert bag.grid.mpp == pytest.approx(MPP * 512 / pixels)


@pytest.mark.parametrize("writer", ["stamp", "slideflow"])
def test_sizes_in_microns_ask_for_the_size_of_a_pixel(tmp_path: Path, writer: str) -> None:
    path = WRITERS[writer][0](tmp_path)
    with pytest.raises(ValueError, match=r"a\.(h5|pt): does not state .*give mpp"):
        open_bag(path)


def test_stamp_before_2_gave_places_in_units_of_256_um_per_224_pixels(tmp_path: Path) -> None:
    path = foreign.stamp(tmp_path / "a.h5", foreign.CORNERS / 512 * 224)
    stated = read_stated(path)
    assert stated.notes[0].startswith("the file states no unit")
    coords, size, stride, pixels = lay(open_bag(path, mpp=0.5))
    assert_array_equal(coords, foreign.CORNERS)  # 256 µm are 512 px of 0.5 µm
    assert (size, stride, pixels) == (512, 512, 224)


def test_stamp_of_no_known_unit_is_refused(tmp_path: Path) -> None:
    path = foreign.stamp(tmp_path / "a.h5", foreign.CORNERS)
    with pytest.raises(ValueError, match=r"step of 512.* extract the features again"):
        open_bag(path, mpp=0.5)


def test_stamps_places_are_rounded_one_by_one_not_added_up(tmp_path: Path) -> None:
    places = np.stack([np.arange(200) * 256.0, np.zeros(200)], axis=1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = places.astype(np.float32)
        file["feats"] = np.zeros((200, 3), np.float16)
        file.attrs.update(unit="um", tile_size_um=256.0)
    coords = lay(open_bag(tmp_path / "a.h5", mpp=0.499))[0]
    assert np.abs(coords[:, 0] - places[:, 0] / 0.499).max() <= 0.5


def test_stamps_channels_have_no_places(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["patch_embeddings"] = foreign.FEATURES
    assert open_bag(tmp_path / "a.h5").grid is None


def test_lazyslides_rows_find_their_tiles_by_number(tmp_path: Path) -> None:
    order = np.array([7, 2, 0])
    bag = open_bag(foreign.lazyslide(tmp_path / "a.zarr", order=order))
    assert_array_equal(lay(bag)[0], foreign.CORNERS[order])
    assert_array_equal(bag.features, foreign.FEATURES[order])


def test_lazyslides_step_is_in_the_frame_of_its_tiles(tmp_path: Path) -> None:
    """A level's downsample is a mean of two axes there."""
    path = foreign.lazyslide(tmp_path / "a.zarr", new=True)
    attrs = json.loads((path / "zarr.json").read_text())
    attrs["attributes"]["tile_spec"]["tiles"]["base_downsample"] = 2.07
    (path / "zarr.json").write_text(json.dumps(attrs))
    grid = open_bag(path).grid
    assert grid is not None
    assert (grid.patch_size, grid.stride) == (512, 512)


def test_lazyslides_row_without_a_tile_is_refused(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    import zarr

    group = zarr.open_group(path / "tables/uni_tiles/obs", mode="a")
    del group["tile_id"]
    group.create_array("tile_id", data=np.arange(12) + 1)
    with pytest.raises(ValueError, match="has tile 12, shapes tiles do not"):
        open_bag(path)


def test_one_of_several_tables_must_be_named(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    import zarr

    other = zarr.open_group(path / "tables", mode="a").create_group("conch_tiles")
    other.attrs["region"] = "tiles"
    other.create_array("X", data=2 * foreign.FEATURES)
    with pytest.raises(ValueError, match=r"has several tables: choose conch_tiles or uni_tiles"):
        open_bag(path)
    bag = open_bag(path, table="conch_tiles")
    assert_array_equal(bag.features, 2 * foreign.FEATURES)
    assert bag.encoder == "conch"
    with pytest.raises(ValueError, match="no table 'virchow_tiles'"):
        open_bag(path, table="virchow_tiles")


def test_slideflows_centers_of_odd_tiles_are_whole_corners(tmp_path: Path) -> None:
    path = foreign.slideflow(tmp_path, "a", 1.0)
    said = (tmp_path / "bags_config.json").read_text().replace("512.0", "511.9")
    (tmp_path / "bags_config.json").write_text(said)
    odd = foreign.CORNERS + 1  # whose halves would round down
    np.savez(tmp_path / "a.index.npz", odd + 255)  # int(x + 511 / 2)
    coords, size, *_ = lay(open_bag(path, mpp=1.0))
    assert size == 511
    assert_array_equal(coords, odd)


def test_slideflows_magnification_in_place_of_a_size_is_asked_for(tmp_path: Path) -> None:
    path = foreign.slideflow(tmp_path, "a", MPP)
    (tmp_path / "bags_config.json").write_text('{"tile_um": "20x", "tile_px": 224}')
    with pytest.raises(ValueError, match="give patch_size"):
        open_bag(path, mpp=MPP)
    assert_array_equal(lay(open_bag(path, patch_size=512))[0], foreign.CORNERS)


def test_a_bare_tensor_is_features_alone(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(foreign.FEATURES), tmp_path / "a.pt")
    bag = open_bag(tmp_path / "a.pt")
    assert bag.grid is None
    assert_array_equal(bag.features, foreign.FEATURES)


def test_an_encoder_that_a_person_names_is_marked_unverified(tmp_path: Path) -> None:
    assert open_bag(foreign.clam(tmp_path, "a"), encoder="uni").encoder == "uni (unverified)"
    path = foreign.trident(tmp_path / "t.h5")
    assert open_bag(path, encoder="conch").encoder == "conch (unverified)"
    assert open_bag(path).encoder == "uni_v1"


@pytest.mark.parametrize("features", [np.zeros((0, 5)), np.zeros(0)])
def test_tridents_slide_without_tissue_says_so(tmp_path: Path, features: np.ndarray) -> None:
    path = foreign.trident(tmp_path / "a.h5", corners=np.zeros((0, 2), int))
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = features
    with pytest.raises(ValueError, match=r"a\.h5: no patches in it.*found no tissue"):
        open_bag(path)


def test_tridents_features_of_a_whole_slide_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = np.zeros(768, np.float32)
    with pytest.raises(ValueError, match="slide-level instead of patch features"):
        open_bag(tmp_path / "a.h5")


def test_the_real_folder_of_lazyslides_is_read(data: Path) -> None:
    path = data / "slides" / "CMU-1-Small-Region_wsidata" / "CMU-1-Small-Region.zarr"
    bag = open_bag(path)
    coords, size, stride, pixels = lay(bag)
    assert bag.features.shape == (31, 1000)
    assert (size, stride, pixels) == (256, 256, 256)
    assert coords[0].tolist() == [563, 2368]
    assert bag.encoder == "resnet50"
    assert bag.grid is not None
    assert bag.grid.slide_size == (2220, 2967)
    assert read_stated(path).bounds == (0, 0, 2220, 2967)  # the file has them the other way
