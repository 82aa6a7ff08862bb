"""Seal: content hash of a feature file, against damage.

HDF5 stores plain numbers without checksums: a damaged number reads as another number.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.features.hdf5 import read_attrs

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

#: Name of the attribute at the root.
SEAL = "content_sha256"
#: Attribute of sealed features: the seal's own attribute can itself be damaged.
_SEALED = "sealed"
#: Attributes needed to interpret the numbers, at the root and on the coordinates.
_ROOT = ("encoder", "slide", "synthetic", "dim", "patches")
_COORDS = (
    *("patch_size", "patch_size_level0", "overlap", "stride_level0", "mpp"),
    *("level0_width", "level0_height"),
)
#: Rows per hash update.
_ROWS = 4096


def seal(file: h5py.File) -> None:
    """Write the seal of a complete file."""
    file["features"].attrs[_SEALED] = True
    file.attrs[SEAL] = seal_of(file)


def seal_of(file: h5py.File) -> str:
    """Return the SHA-256 of features, coordinates and their attributes."""
    digest = hashlib.sha256()
    for name in ("features", "coords"):
        table = file[name]
        for start in range(0, len(table), _ROWS):
            digest.update(np.ascontiguousarray(table[start : start + _ROWS]).data)
    root, coords = read_attrs(file), read_attrs(file["coords"])
    facts = {name: root.get(name) for name in _ROOT} | {
        f"coords.{name}": coords.get(name) for name in _COORDS
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def is_sealed(file: h5py.File) -> bool:
    """Return whether a file matches its seal.

    Older files without a seal pass.
    """
    sealed = read_attrs(file).get(SEAL)
    if sealed is None:
        return _SEALED not in read_attrs(file["features"])
    return bool(sealed == seal_of(file))


def check_sealed(path: Path | str, sealed: bool) -> None:
    """Raise ValueError for a file changed after it was written."""
    if not sealed:
        raise ValueError(
            f"{path}: damaged or edited: its content differs from its stored hash. Extract the "
            "features again, or restore the file from a backup"
        )
