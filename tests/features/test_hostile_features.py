"""Files of features are read as data: nothing is run, nothing outside is opened."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from typing import TYPE_CHECKING

import foreign
import h5py
import numpy as np
import pytest
import torch

from napari_wsimil.features.importers.open import open_bag

if TYPE_CHECKING:
    from pathlib import Path


class Runs:
    """An object whose pickle makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", ["torch", "plain"])
def test_a_pickle_that_would_run_something_does_not(tmp_path: Path, protocol: str) -> None:
    mark = tmp_path / "mark"
    if protocol == "torch":
        torch.save(Runs(mark), tmp_path / "a.pt")
    else:
        (tmp_path / "a.pt").write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(ValueError, match=r"a\.pt: .*pickle can run any program.*\.h5"):
        open_bag(tmp_path / "a.pt")
    assert not mark.exists()


def test_tridents_pickled_array_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(foreign.FEATURES, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"Give the HDF5 file \(\.h5\)"):
        open_bag(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"features": torch.zeros(3, 2)}, torch.zeros(3)])
def test_what_is_no_table_of_features_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"contains a (dict|tensor of \(3,\)), not one \(N, D\)"):
        open_bag(tmp_path / "a.pt")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(10**12, 4), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="more than is stored"):
        open_bag(tmp_path / "a.pt")


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(10**6, 4), tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="is compressed"):
        open_bag(tmp_path / "a.pt")


def test_slideflows_places_are_never_objects_nor_larger_than_their_file(tmp_path: Path) -> None:
    path = foreign.slideflow(tmp_path, "a", 0.5)
    mark = tmp_path / "mark"
    np.savez(tmp_path / "a.index.npz", np.array([[Runs(mark), 0]], dtype=object))
    with pytest.raises(ValueError, match=r"a\.index\.npz: no readable coordinates"):
        open_bag(path, mpp=0.5)
    assert not mark.exists()
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**13}, 2), }}"
    text = header.ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    with zipfile.ZipFile(tmp_path / "a.index.npz", "w") as archive:
        archive.writestr("arr_0.npy", array)
    with pytest.raises(ValueError, match="its array is declared as"):
        open_bag(path, mpp=0.5)


def test_slideflows_class_is_a_name_and_nothing_is_imported(tmp_path: Path) -> None:
    path = foreign.slideflow(tmp_path, "a", 0.5)
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'mark')!r})")
    said = {"extractor": {"class": "evil.Extractor"}, "tile_um": 256, "tile_px": 224}
    (tmp_path / "bags_config.json").write_text(json.dumps(said))
    assert open_bag(path, mpp=0.5).encoder == "evil.Extractor"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["features", "coords"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_in_a_file_are_not_followed(tmp_path: Path, name: str, kind: str) -> None:
    foreign.trident(tmp_path / "other.h5")
    path = foreign.trident(tmp_path / "a.h5")
    link = h5py.ExternalLink("other.h5", name) if kind == "external" else h5py.SoftLink("/x")
    with h5py.File(path, "a") as file:
        file.move(name, "x")
        file[name] = link
    with pytest.raises(ValueError, match=rf"a\.h5: {name} is a link to .*not followed"):
        open_bag(path)


def test_data_that_lie_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(12 * 5 * 4))
    path = foreign.trident(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        outside = [("secret.bin", 0, 12 * 5 * 4)]
        file.create_dataset("features", (12, 5), "f4", external=outside)
    with pytest.raises(ValueError, match="are in other files"):
        open_bag(path)
    with h5py.File(path, "a") as file:
        del file["features"]
        layout = h5py.VirtualLayout((12, 5), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "features", (12, 5))
        file.create_virtual_dataset("features", layout)
    with pytest.raises(ValueError, match="are in other files"):
        open_bag(path)


def test_a_zarr_whose_codec_is_pickle_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    array, mark = path / "tables/uni_tiles/X", tmp_path / "mark"
    said = json.loads((array / ".zarray").read_text())
    said |= {"filters": [{"id": "pickle"}], "compressor": None, "dtype": "|O"}
    (array / ".zarray").write_text(json.dumps(said))
    (array / "0.0").write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(ValueError, match="codec 'pickle' is not supported"):
        open_bag(path)
    assert not mark.exists()


def test_an_absurd_zarr_is_refused(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    array = path / "tables/uni_tiles/X"
    said = json.loads((array / ".zarray").read_text()) | {"shape": [10**9, 10**4]}
    (array / ".zarray").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"X: is declared as \(1000000000, 10000\)"):
        open_bag(path)


@pytest.mark.parametrize("region", ["../../elsewhere", "..", "/etc"])
def test_a_zarr_that_names_a_place_outside_is_refused(tmp_path: Path, region: str) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    (path / "tables/uni_tiles/.zattrs").write_text(json.dumps({"region": region}))
    with pytest.raises(ValueError, match="is not a valid group name"):
        open_bag(path)


def test_links_out_of_a_zarr_are_not_followed(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    array = path / "tables/uni_tiles/X"
    array.rename(tmp_path / "X")
    array.symlink_to(tmp_path / "X")
    with pytest.raises(ValueError, match="link out of"):
        open_bag(path)
    array.unlink()
    (tmp_path / "X").rename(array)
    chunk = next(file for file in array.rglob("*") if file.is_file() and file.name[0] != ".")
    chunk.rename(tmp_path / "chunk")
    chunk.symlink_to(tmp_path / "chunk")
    with pytest.raises(ValueError, match="link in place of data"):
        open_bag(path)


def test_sparse_or_broken_shapes_are_refused(tmp_path: Path) -> None:
    path = foreign.lazyslide(tmp_path / "a.zarr")
    (path / "shapes/tiles/shapes.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match="tiles cannot be read"):
        open_bag(path)
    (path / "shapes/tiles/shapes.parquet").unlink()
    with pytest.raises(ValueError, match="there are no shapes 'tiles'"):
        open_bag(path)
