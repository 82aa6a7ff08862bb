"""STAMP files: float16 features, coordinates in µm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.features.hdf5 import maybe_number, open_h5, read_attrs, read_numbers
from napari_wsimil.features.importers.base import Stated, Tool, Unit
from napari_wsimil.features.importers.trident import table_shape

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

#: Files before version 2.0 have coordinates in units of 256 µm per 224 px.
_OLD_PIXELS, _OLD_UM = 224, 256.0


def state_stamp(path: Path | str, file: h5py.File) -> Stated:
    """Read a STAMP feature file; slide-level features have no coordinates.

    Raises
    ------
    ValueError
        If features are missing, or the unit of the coordinates is unknown.
    """
    path = Path(path)
    name = next((name for name in ("feats", "patch_embeddings") if name in file), None)
    if name is None:
        raise ValueError(f"{path}: no feats in it, only {sorted(file)}")
    root = read_attrs(file)
    shape = table_shape(path, file[name])
    encoder = str(root.get("extractor") or root.get("encoder") or "")
    if "coords" not in file:
        return Stated(path, Tool.STAMP, shape, lambda: _features(path, name), encoder=encoder)
    stored = _coords(path, file)
    corners, side, pixels, notes = _microns(path, stored, root)
    return Stated(
        path=path,
        tool=Tool.STAMP,
        shape=shape,
        load=lambda: _features(path, name),
        corners=corners,
        unit=Unit.MICRONS,
        patch_um=side,
        pixels=pixels,
        step=side,
        encoder=encoder,
        notes=notes,
    )


def _coords(path: Path, file: h5py.File) -> NDArray[np.float64]:
    stored = read_numbers(path, file["coords"]).astype(np.float64)
    if stored.ndim != 2 or stored.shape[1] != 2 or not np.isfinite(stored).all():
        raise ValueError(f"{path}: coords must be finite and (N, 2), not {stored.shape}")
    return stored


def _microns(
    path: Path, stored: NDArray[np.float64], root: dict[str, Any]
) -> tuple[NDArray[np.float64], float, int | None, tuple[str, ...]]:
    """Return coordinates and patch side in µm, pixels, and assumptions."""
    pixels = maybe_number(path, root, "tile_size_px")
    whole = None if pixels is None else int(pixels)
    side = maybe_number(path, root, "tile_size_um")
    if side is None and root.get("unit") == "um":
        side = maybe_number(path, root, "tile_size")
    if side is not None:
        return stored, side, whole, ()
    step = maybe_number(path, root, "tile_size") or _least_step(stored)
    if root.get("unit") is None and step is not None and round(step) == _OLD_PIXELS:
        note = (
            f"the file states no unit; patches are about {_OLD_PIXELS} apart, so one unit is "
            f"assumed to be {_OLD_UM:g}/{_OLD_PIXELS} µm, as in STAMP before 2.0"
        )
        return stored / _OLD_PIXELS * _OLD_UM, _OLD_UM, _OLD_PIXELS, (note,)
    raise ValueError(
        f"{path}: STAMP's file states no tile size, and its step of {step} is not that of "
        "STAMP before 2.0 (224): extract the features again with STAMP 2"
    )


def _least_step(coords: NDArray[np.float64]) -> float | None:
    """Return the least step between patch columns or rows.

    STAMP infers its stride in the same way.
    """
    steps = np.concatenate([np.diff(np.unique(coords[:, axis])) for axis in (0, 1)])
    return float(steps.min()) if len(steps) else None


def _features(path: Path, name: str) -> NDArray[np.float32]:
    with open_h5(path) as file:
        return read_numbers(path, file[name]).astype(np.float32)
