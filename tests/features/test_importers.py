"""Bags of other tools: TRIDENT's open as they are, CLAM's ask for what they lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from napari_wsimil.features.importers.open import open_bag

if TYPE_CHECKING:
    from pathlib import Path

COORDS = 512 * np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).reshape(-1, 2)
FEATURES = np.arange(12 * 5, dtype=np.float32).reshape(12, 5)


def write(path: Path, coords_attrs: dict[str, Any] | None = None, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        for name, value in (coords_attrs or {}).items():
            file["coords"].attrs[name] = value
    return path


def test_tridents_features_open_as_they_are(tmp_path: Path) -> None:
    attrs = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "case-7",
        "savetodir": "/elsewhere",
        "level0_width": 9000,
        "level0_height": 8000,
    }
    path = tmp_path / "case-7.h5"
    with h5py.File(path, "w") as file:
        features = file.create_dataset("features", data=FEATURES, chunks=(1, 5), maxshape=(None, 5))
        features.attrs["encoder"] = np.bytes_(b"uni_v1")
        coords = file.create_dataset("coords", data=COORDS, chunks=(1, 2), maxshape=(None, 2))
        coords.attrs.update(attrs)
    bag = open_bag(path)
    assert_array_equal(bag.features, FEATURES)
    assert bag.encoder == "uni_v1"
    assert bag.grid is not None
    assert_array_equal(bag.grid.coords, COORDS)
    assert (bag.grid.patch_size, bag.grid.stride, bag.grid.pixels) == (512, 512, 256)
    assert (bag.grid.slide_size, bag.grid.mpp) == ((9000, 8000), None)


@pytest.mark.parametrize("nothing", ["None", np.bytes_(b"None")])
def test_tridents_none_is_nothing_and_its_overlap_is_in_patch_pixels(
    tmp_path: Path, nothing: object
) -> None:
    attrs = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "overlap": 64,
        "level0_width": nothing,
        "level0_height": nothing,
    }
    path = write(tmp_path / "a.h5", attrs, features=FEATURES, coords=COORDS)
    grid = open_bag(path).grid
    assert grid is not None
    assert (grid.stride, grid.slide_size) == (384, None)


def test_clams_features_ask_for_the_patch_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features=FEATURES, coords=COORDS.astype(np.int32))
    with pytest.raises(ValueError, match="give patch_size"):
        open_bag(path)
    grid = open_bag(path, patch_size=500, pixels=250).grid
    assert grid is not None
    assert grid.coords.dtype == np.int64
    assert (grid.patch_size, grid.pixels, grid.stride) == (500, 250, 512)


def test_clams_file_of_patches_gives_the_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features=FEATURES, coords=COORDS)
    attrs = {"patch_size": 256, "patch_level": 1, "downsample": np.array([2.0001, 2.0])}
    patches = write(tmp_path / "p.h5", attrs, coords=COORDS)
    grid = open_bag(path, patches=patches).grid
    assert grid is not None
    assert (grid.patch_size, grid.pixels) == (512, 256)


@pytest.mark.parametrize(
    ("attrs", "size"),
    [
        ({"downsample": (700 / 43, 16.0), "level_dim": (43, 2500)}, 4096),
        ({"downsample": (4.0003, 4.0), "level_dim": (11499, 8228)}, 1024),
        ({"downsample": 2.0}, 512),
    ],
)
def test_clams_patches_of_an_elongated_slide_have_the_levels_factor(
    tmp_path: Path, attrs: dict[str, object], size: int
) -> None:
    path = write(tmp_path / "a.h5", {"patch_size": 256, **attrs}, features=FEATURES, coords=COORDS)
    assert open_bag(path).grid.patch_size == size


def test_clams_patches_that_are_not_square_ask_for_their_size(tmp_path: Path) -> None:
    attrs = {"patch_size": 256, "downsample": (16.28, 16.0)}
    path = write(tmp_path / "a.h5", attrs, features=FEATURES, coords=COORDS)
    with pytest.raises(ValueError, match="how large a patch is"):
        open_bag(path)


def test_clams_impossible_sizes_are_refused_with_the_file(tmp_path: Path) -> None:
    attrs = {"patch_size": 256, "downsample": (0.0, 0.0)}
    path = write(tmp_path / "a.h5", attrs, features=FEATURES, coords=COORDS)
    with pytest.raises(ValueError, match=r"a\.h5: its attribute downsample is 0"):
        open_bag(path)


@pytest.mark.parametrize("features", [np.array([b"a"]), np.float32(3), h5py.Empty("f4")])
def test_features_that_are_no_table_of_numbers_are_refused(
    tmp_path: Path, features: np.ndarray
) -> None:
    path = write(tmp_path / "a.h5", features=features)
    with pytest.raises(ValueError, match=r"a\.h5: "):
        open_bag(path)


def test_patches_of_another_slide_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features=FEATURES, coords=COORDS)
    attrs = {"patch_size": 256, "downsample": (1.0, 1.0)}
    patches = write(tmp_path / "p.h5", attrs, coords=COORDS + 1)
    with pytest.raises(ValueError, match=r"p\.h5: its coords differ from those"):
        open_bag(path, patches=patches)


def test_features_alone_are_a_bag_without_places(data: Path) -> None:
    bag = open_bag(data / "features" / "TCGA-3X-AAVA-01Z-00-DX1.features_only.h5")
    assert bag.features.shape == (180, 512)
    assert bag.grid is None


def test_features_and_coordinates_of_different_number_are_refused(tmp_path: Path) -> None:
    attrs = {"patch_size": 256, "patch_size_level0": 512}
    path = write(tmp_path / "a.h5", attrs, features=FEATURES, coords=COORDS[:-1])
    with pytest.raises(ValueError, match=r"a\.h5: 12 features for 11 patches"):
        open_bag(path)


def test_a_bag_of_nan_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features=np.full_like(FEATURES, np.nan))
    with pytest.raises(ValueError, match=r"a\.h5: 12 of 12 patches have NaN"):
        open_bag(path)


def test_coordinates_in_microns_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", features=FEATURES, coords=COORDS * 0.2527)
    with pytest.raises(ValueError, match="not whole level-0 pixels"):
        open_bag(path, patch_size=512)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02cos\nsystem\n")
    with pytest.raises(ValueError, match="pickle"):
        open_bag(tmp_path / "a.pt")


def test_a_file_without_features_says_what_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", coords=COORDS)
    with pytest.raises(ValueError, match=r"no features in it, only \['coords'\]"):
        open_bag(path)
