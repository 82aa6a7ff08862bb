"""Bags as HDF5 files in TRIDENT's layout, with their provenance.

The root has `features` (N, D) float32 and `coords` (N, 2) int64 in level-0 pixels. Sizes
are attributes of `coords`, the provenance is in attributes of the root. Rows are appended
in blocks, so that an incomplete file is still a valid HDF5 file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.encoders.base import onnx_hint
from napari_wsimil.features.hdf5 import (
    damage_named,
    number,
    open_file,
    open_h5,
    read_attrs,
    read_numbers,
    reserve,
    stored_grid,
    whole_coords,
)
from napari_wsimil.features.seal import check_sealed, is_sealed, seal
from napari_wsimil.files import atomic_write
from napari_wsimil.slides.reading import UNKNOWN, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_wsimil.slides.patch_grid import PatchGrid

#: Approximate bytes of features per chunk.
CHUNK_BYTES = 2**18
#: Root attributes of a `Reading`.
_VERSION, _CHANGES = "reader_version", "reader_changes"


@dataclass(frozen=True)
class Provenance:
    """Origin of features: encoder, slide and reader version.

    Attributes
    ----------
    encoder
        Identity of the encoder, name and hash.
    slide
        Fingerprint of the slide's file.
    synthetic
        True for a synthetic slide.
    name
        Slide name in the file, for other tools; if empty, the fingerprint is used, because
        the name of a slide's file can identify a patient.
    reading
        Version of the slide readers, and the changes since.
    """

    encoder: str
    slide: str = ""
    synthetic: bool = False
    name: str = ""
    reading: Reading = UNKNOWN

    @property
    def title(self) -> str:
        """Slide name in the file."""
        return self.name or self.slide


class BagFile:
    """Bag on disk to which blocks of rows are appended.

    Use it as a context manager. The file of a stopped run is resumed: `len` is the number
    of rows safely stored. Disk space for a block is allocated before HDF5 writes it, so
    that a full disk leaves the file as it was after the previous block.

    Parameters
    ----------
    path
        The file, created if missing.
    grid
        All patches of the run, in the order of the rows.
    dim
        D, the width of a row.
    provenance
        Must equal that of an existing file. Rows of an earlier reader version are kept if
        this slide's pixels have not changed since.

    Raises
    ------
    ValueError
        If the file belongs to another slide, encoder or grid; the message names the
        difference.
    OSError
        If the file cannot be read or written.
    """

    def __init__(self, path: Path | str, grid: PatchGrid, dim: int, provenance: Provenance) -> None:
        path = Path(path)
        self.path, self._grid, self._dim = path, grid, dim
        if not path.exists():
            _create(path, grid, dim, provenance)
        with open_h5(path) as file:
            _check_same(file, path, grid, dim, provenance)
        self._file = open_file(path, "r+")

    def __len__(self) -> int:
        return _rows(self._file)

    def __enter__(self) -> BagFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[np.float32]) -> None:
        """Write the next (B, D) rows and flush them.

        An OSError leaves the earlier rows intact.
        """
        done = len(self)
        end = done + len(rows)
        if rows.shape[1:] != (self._dim,) or end > len(self._grid):
            raise ValueError(
                f"{self.path}: cannot append rows of shape {rows.shape} after {done} of "
                f"{len(self._grid)} rows with {self._dim} columns"
            )
        reserve(self.path, self._file.id.get_filesize() + rows.nbytes + 3 * CHUNK_BYTES)
        for name, block in (("features", rows), ("coords", self._grid.coords[done:end])):
            dataset = self._file[name]
            dataset.resize(end, axis=0)
            dataset[done:end] = block
        if end == len(self._grid):
            seal(self._file)
        self._file.flush()

    def read(self) -> NDArray[np.float32]:
        """Return all (n, D) rows written so far."""
        with damage_named(self.path):
            return np.asarray(self._file["features"][: len(self)], dtype=np.float32)


def save_bag(path: Path | str, bag: Bag, name: str = "") -> None:
    """Write a bag with coordinates to an HDF5 file.

    An existing file is replaced once the new one is complete. `name` is the slide's name in
    the file, by default its fingerprint.

    Raises
    ------
    ValueError
        If the bag has no grid, or a placeholder grid.
    """
    if bag.grid is None or bag.grid.made_up:
        raise ValueError(f"{path}: not saved: the bag has no coordinates")
    provenance = Provenance(bag.encoder, bag.slide, bag.synthetic, name, bag.reading)
    rows = bag.features.detach().cpu().numpy().astype(np.float32)
    with atomic_write(path) as part, BagFile(part, bag.grid, rows.shape[1], provenance) as file:
        for start in range(0, len(rows), 4096):
            file.append(rows[start : start + 4096])


def is_finished(path: Path | str) -> bool:
    """Return whether a complete feature file exists.

    The file of a stopped run is incomplete.

    Raises
    ------
    ValueError
        If it is not an HDF5 file.
    """
    path = Path(path)
    if not path.exists():
        return False
    with open_h5(path) as file:
        root = read_attrs(file)
        tables = [file.get(name) for name in ("features", "coords")]
        ours = "patches" in root and all(getattr(table, "ndim", 0) == 2 for table in tables)
        return not ours or _rows(file) >= number(path, root, "patches", least=0)


def load_bag(path: Path | str, partial: bool = False) -> Bag:
    """Load a bag from a napari-wsimil or TRIDENT file.

    Parameters
    ----------
    path
        HDF5 file with `features` and `coords`, the sizes in attributes of `coords`.
    partial
        Whether to accept the incomplete file of a stopped run.

    Raises
    ------
    ValueError
        If the file has another layout, is incomplete, or has NaN features.
    """
    path = Path(path)
    with open_h5(path) as file:
        attrs = read_attrs(file["coords"]) if "coords" in file else {}
        if "features" not in file or "patch_size_level0" not in attrs:
            raise ValueError(
                f"{path}: lacks features, coords or the attribute patch_size_level0 of coords. "
                "For files of other tools use `open_bag`"
            )
        root = read_attrs(file)
        features = read_numbers(path, file["features"]).astype(np.float32, copy=False)
        coords = whole_coords(path, file["coords"])
        encoder = root.get("encoder") or read_attrs(file["features"]).get("encoder") or ""
        sealed = is_sealed(file)
    if "patches" in root:
        rows = min(len(features), len(coords))
        _check_finished(path, rows, int(number(path, root, "patches", least=0)), partial)
        features, coords = features[:rows], coords[:rows]
    grid = stored_grid(path, coords, attrs)
    check_sealed(path, sealed)
    return bag_of(
        path,
        features,
        grid,
        encoder=str(encoder),
        slide=str(root.get("slide") or ""),
        synthetic=bool(root.get("synthetic", False)),
        reading=stored_reading(path, root),
    )


def stored_reading(path: Path | str, root: Mapping[str, Any]) -> Reading:
    """Return the reader version stated by root attributes.

    Files of other programs state none.
    """
    own = str(root.get("software") or "").startswith("napari-wsimil")
    version = int(number(path, {_VERSION: int(own)} | dict(root), _VERSION, least=0))
    try:
        return Reading.parse(version, root.get(_CHANGES))
    except ValueError as error:
        raise ValueError(f"{path}: {_CHANGES} is {root[_CHANGES]!r}: {error}") from error


def bag_of(
    path: Path | str, features: NDArray[np.float32], grid: PatchGrid | None, **facts: Any
) -> Bag:
    """Return a `Bag` of arrays; errors name `path`."""
    try:
        return Bag(torch.from_numpy(features), grid=grid, **facts)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _rows(file: h5py.File) -> int:
    return min(len(file["features"]), len(file["coords"]))


def _create(path: Path, grid: PatchGrid, dim: int, provenance: Provenance) -> None:
    """Write a file without rows, atomically."""
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        _create_datasets(file, dim)
        file["features"].attrs.update(encoder=provenance.encoder, name=provenance.title)
        file["coords"].attrs.update(_coords_attrs(grid, provenance))
        file.attrs.update(_facts(grid, dim, provenance))
        file.attrs["software"] = f"napari-wsimil {version('napari-wsimil')}"
        file.attrs[_VERSION] = provenance.reading.version
        if (changes := provenance.reading.text) is not None:
            file.attrs[_CHANGES] = changes


def _create_datasets(file: h5py.File, dim: int) -> None:
    rows = max(1, CHUNK_BYTES // (4 * dim))
    for name, width, dtype in (("features", dim, np.float32), ("coords", 2, np.int64)):
        file.create_dataset(name, (0, width), dtype, maxshape=(None, width), chunks=(rows, width))


def _coords_attrs(grid: PatchGrid, provenance: Provenance) -> dict[str, Any]:
    scale = grid.pixels / grid.patch_size
    width, height = grid.slide_size or ("None", "None")
    return {
        "patch_size": grid.pixels,
        "patch_size_level0": grid.patch_size,
        "level0_magnification": "None" if grid.mpp is None else round(10 / (grid.mpp * scale), 2),
        "target_magnification": "None" if grid.mpp is None else round(10 / grid.mpp, 2),
        "overlap": max(0, round((grid.patch_size - grid.stride) * scale)),
        "name": provenance.title,
        "level0_width": width,
        "level0_height": height,
        "stride_level0": grid.stride,
        "mpp": "None" if grid.mpp is None else grid.mpp,
    }


def _facts(grid: PatchGrid, dim: int, provenance: Provenance) -> dict[str, Any]:
    """Return the attributes that must match to resume a run."""
    coords_hash = hashlib.sha256(np.ascontiguousarray(grid.coords).tobytes()).hexdigest()
    return {
        "encoder": provenance.encoder,
        "slide": provenance.slide,
        "synthetic": provenance.synthetic,
        "dim": dim,
        "patches": len(grid),
        "pixels": grid.pixels,
        "patch_size_level0": grid.patch_size,
        "places": coords_hash[:16],
    }


def _check_same(
    file: h5py.File, path: Path, grid: PatchGrid, dim: int, provenance: Provenance
) -> None:
    stored = read_attrs(file)
    for name, value in _facts(grid, dim, provenance).items():
        if stored.get(name) != value:
            raise ValueError(
                f"{path}: cannot resume this file: its {name} is {stored.get(name)!r}, this "
                f"run's is {value!r}. Give another path, or the original "
                f"settings{onnx_hint(str(stored.get(name)), str(value))}"
            )
    reading = stored_reading(path, stored)
    changed = provenance.reading.changed(reading.version)
    if changed is None or changed:
        raise ValueError(
            f"{path}: cannot resume this file: reader version {reading.version} made its rows, "
            f"version {provenance.reading.version} reads the "
            f"{' and '.join(changed or ('color or the levels',))} of this slide differently. Give "
            "another path, or delete the file"
        )


def _check_finished(path: Path, rows: int, patches: int, partial: bool) -> None:
    if rows < patches and not partial:
        raise ValueError(
            f"{path}: has {rows} of {patches} patches: the run that wrote it was stopped. "
            "Run it again to resume"
        )
