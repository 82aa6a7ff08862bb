"""Bags on disk: written block by block, resumed, and safe when the disk is full."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import BagFile, Provenance, is_finished, load_bag, save_bag
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MADE_BY = Provenance("stain@1", slide="abc", synthetic=True, name="case-7")


def grid_of(count: int = 60, patch_size: int = 448) -> PatchGrid:
    x, y = np.meshgrid(np.arange(10), np.arange(count // 10))
    coords = 300 * np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)
    return PatchGrid(coords, patch_size, 300, 224, 0.5, (10_000, 8_000))


def rows_of(grid: PatchGrid, dim: int = 7) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(len(grid), dim)).astype(np.float32)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_bag_comes_back_as_it_was(tmp_path: Path) -> None:
    grid = grid_of()
    bag = Bag(torch.from_numpy(rows_of(grid)), "stain@1", grid, synthetic=True, slide="abc")
    save_bag(tmp_path / "a.h5", bag)
    back = load_bag(tmp_path / "a.h5")
    assert torch.equal(back.features, bag.features)
    assert (back.encoder, back.synthetic, back.slide) == ("stain@1", True, "abc")
    assert back.grid is not None
    assert_array_equal(back.grid.coords, grid.coords)
    facts = ("patch_size", "stride", "pixels", "mpp", "slide_size")
    assert [getattr(back.grid, f) for f in facts] == [getattr(grid, f) for f in facts]


def test_another_tool_finds_the_attributes_of_tridents_layout(tmp_path: Path) -> None:
    grid = grid_of()
    save_bag(tmp_path / "a.h5", Bag(torch.from_numpy(rows_of(grid)), grid=grid), name="case-7")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].dtype == np.float32
        assert file["coords"].dtype == np.int64
        attrs = dict(file["coords"].attrs)
    assert (attrs["patch_size"], attrs["patch_size_level0"]) == (224, 448)
    assert (attrs["level0_magnification"], attrs["target_magnification"]) == (40, 20)
    assert (attrs["overlap"], attrs["name"]) == (74, "case-7")
    assert (attrs["level0_width"], attrs["level0_height"]) == (10_000, 8_000)


def test_a_bag_is_named_by_its_slides_fingerprint_not_by_its_file(tmp_path: Path) -> None:
    grid = grid_of()
    save_bag(tmp_path / "Jane.h5", Bag(torch.from_numpy(rows_of(grid)), grid=grid, slide="abc"))
    with h5py.File(tmp_path / "Jane.h5") as file:
        assert file["coords"].attrs["name"] == file["features"].attrs["name"] == "abc"
    assert b"Jane" not in (tmp_path / "Jane.h5").read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", None), ("patch_size", 0), ("patch_size_level0", "wide"), ("overlap", 999)],
)
def test_sizes_that_cannot_be_are_refused_with_the_file(
    tmp_path: Path, name: str, value: object
) -> None:
    grid, path = grid_of(), tmp_path / "a.h5"
    fill(path, grid, rows_of(grid))
    with h5py.File(path, "r+") as file:
        attrs = file["coords"].attrs
        del attrs[name], attrs["stride_level0"]
        if value is not None:
            attrs[name] = value
    with pytest.raises(ValueError, match=r"a\.h5: .*(patch_size|stride)"):
        load_bag(path)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_features_that_are_declared_but_not_stored_are_not_read(
    tmp_path: Path, compression: str | None
) -> None:
    grid, path = grid_of(), tmp_path / "a.h5"
    fill(path, grid, rows_of(grid))
    with h5py.File(path, "r+") as file:
        del file["features"]
        shape, chunks = (10**9, 1024), (64, 1024)
        file.create_dataset("features", shape, "f4", chunks=chunks, compression=compression)
    with pytest.raises(ValueError, match=r"a\.h5: features is declared as \(1000000000, 1024\)"):
        load_bag(path)


def test_a_file_is_finished_when_all_rows_of_its_run_are_there(tmp_path: Path) -> None:
    grid, path = grid_of(), tmp_path / "a.h5"
    assert not is_finished(path)
    with BagFile(path, grid, 7, MADE_BY) as file:
        file.append(rows_of(grid)[:59])
    assert not is_finished(path)
    fill(path, grid, rows_of(grid))
    assert is_finished(path)
    with h5py.File(tmp_path / "foreign.h5", "w") as foreign:
        foreign["features"] = np.zeros((2, 3))
    assert is_finished(tmp_path / "foreign.h5")


def test_an_unknown_mpp_stays_unknown(tmp_path: Path) -> None:
    grid = replace(grid_of(), mpp=None, slide_size=None)
    save_bag(tmp_path / "a.h5", Bag(torch.from_numpy(rows_of(grid)), grid=grid))
    back = load_bag(tmp_path / "a.h5").grid
    assert back is not None
    assert (back.mpp, back.slide_size) == (None, None)


def test_a_bag_without_places_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no coordinates"):
        save_bag(tmp_path / "a.h5", Bag(torch.zeros(2, 3)))
    assert not list(tmp_path.iterdir())


def test_what_was_flushed_survives_a_crash_and_is_taken_up(tmp_path: Path) -> None:
    grid, path, left = grid_of(), tmp_path / "a.h5", tmp_path / "left.h5"
    rows = rows_of(grid)
    with BagFile(path, grid, 7, MADE_BY) as file:
        file.append(rows[:13])
        file.append(rows[13:40])
        shutil.copy(path, left)  # as a process that is killed here would leave it
    with pytest.raises(ValueError, match="40 of 60"):
        load_bag(left)
    assert_array_equal(load_bag(left, partial=True).features, rows[:40])
    with BagFile(left, grid, 7, MADE_BY) as file:
        assert len(file) == 40
        file.append(rows[40:])
    assert_array_equal(load_bag(left).features, rows)


def test_a_full_disk_leaves_a_valid_file_that_is_taken_up(tmp_path: Path) -> None:
    grid, path = grid_of(2000), tmp_path / "a.h5"
    rows = rows_of(grid, dim=300)
    with disk_of(1_600_000), pytest.raises(OSError, match="already written are safe"):
        fill(path, grid, rows)
    done = len(load_bag(path, partial=True))
    assert 100 <= done < 2000
    assert_array_equal(load_bag(path, partial=True).features, rows[:done])
    fill(path, grid, rows)
    assert_array_equal(load_bag(path).features, rows)


def fill(path: Path, grid: PatchGrid, rows: np.ndarray) -> None:
    with BagFile(path, grid, rows.shape[1], MADE_BY) as file:
        for start in range(len(file), len(rows), 100):
            file.append(rows[start : start + 100])


def test_a_disk_full_from_the_start_leaves_nothing(tmp_path: Path) -> None:
    with disk_of(100), pytest.raises(OSError):  # noqa: PT011 - HDF5 words it
        BagFile(tmp_path / "a.h5", grid_of(), 7, MADE_BY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("made_by", "grid", "dim", "difference"),
    [
        (replace(MADE_BY, encoder="uni@2"), grid_of(), 7, "its encoder is 'stain@1'.*'uni@2'"),
        (replace(MADE_BY, slide="xyz"), grid_of(), 7, "its slide is 'abc'.*'xyz'"),
        (MADE_BY, grid_of(50), 7, "its patches is 60.*50"),
        (MADE_BY, grid_of(patch_size=400), 7, "its patch_size_level0 is 448.*400"),
        (MADE_BY, replace(grid_of(), coords=grid_of().coords + 1), 7, "its places is"),
        (MADE_BY, grid_of(), 8, "its dim is 7.*8"),
    ],
)
def test_the_file_of_another_run_is_refused_and_kept(
    tmp_path: Path, made_by: Provenance, grid: PatchGrid, dim: int, difference: str
) -> None:
    path = tmp_path / "a.h5"
    fill(path, grid_of(), rows_of(grid_of()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=difference):
        BagFile(path, grid, dim, made_by)
    assert path.read_bytes() == before


def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"not at all")
    with pytest.raises(ValueError, match=r"a\.h5: not a readable HDF5"):
        load_bag(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match=r"b\.h5"):
        load_bag(tmp_path / "b.h5")


def test_features_that_are_not_finite_are_refused_with_the_file(tmp_path: Path) -> None:
    grid, path = grid_of(), tmp_path / "a.h5"
    rows = rows_of(grid)
    rows[5, 2] = np.nan
    fill(path, grid, rows)
    with pytest.raises(ValueError, match=r"a\.h5: 1 of 60 patches have NaN"):
        load_bag(path)
