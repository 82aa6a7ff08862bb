"""TRIDENT and napari-wsimil feature files, which state all sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.features.hdf5 import read_attrs, stored_grid, whole_coords
from napari_wsimil.features.importers.base import Stated, Tool, Unit
from napari_wsimil.features.store import load_bag, stored_reading

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

#: Separator of name and hash in an encoder's identity, see `EncoderCard.identity`.
_HASH = "@"


def state_trident(path: Path | str, file: h5py.File) -> Stated:
    """Read a TRIDENT or napari-wsimil feature file.

    Raises
    ------
    ValueError
        If features are missing or a size is invalid.
    """
    path = Path(path)
    if "features" not in file:
        raise ValueError(
            f"{path}: patch coordinates without features: give the file in features_… beside it"
        )
    root, attrs = read_attrs(file), read_attrs(file["coords"])
    coords = whole_coords(path, file["coords"])
    grid = stored_grid(path, coords, attrs)
    encoder = str(root.get("encoder") or read_attrs(file["features"]).get("encoder") or "")
    own = str(root.get("software") or "").startswith(Tool.OWN)
    return Stated(
        path=path,
        tool=Tool.OWN if own else Tool.TRIDENT,
        shape=table_shape(path, file["features"]),
        load=lambda: _features(path),
        corners=coords.astype(np.float64),
        unit=Unit.PIXELS,
        patch_size=grid.patch_size,
        pixels=grid.pixels,
        step=grid.stride,
        mpp=None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size,
        slide_size=grid.slide_size,
        encoder=encoder,
        verified=own and _HASH in encoder,
        slide=str(root.get("slide") or ""),
        synthetic=bool(root.get("synthetic", False)),
        reading=stored_reading(path, root),
    )


def table_shape(path: Path | str, dataset: Any) -> tuple[int, int]:
    """Return the shape (N, D) of a feature dataset.

    Raises
    ------
    ValueError
        If it is not two-dimensional, or has no rows.
    """
    shape: tuple[int, ...] = getattr(dataset, "shape", None) or ()
    if shape[:1] == (0,):
        raise ValueError(f"{path}: no patches in it: the tool that wrote it found no tissue")
    if len(shape) != 2:
        raise ValueError(
            f"{path}: its features are {shape}, not (N, D): slide-level instead of patch features?"
        )
    return int(shape[0]), int(shape[1])


def _features(path: Path) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = load_bag(path).features.numpy()
    return rows
