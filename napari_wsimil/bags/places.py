"""Places: the grid of a bag as an HDF5 file has it, in TRIDENT's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.bags.hdf5 import maybe_number, number, read_numbers
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray


def whole_coords(path: Path, dataset: h5py.Dataset) -> NDArray[np.int64]:
    """Return (N, 2) coordinates; ValueError if they are not whole pixels."""
    stored = read_numbers(path, dataset)
    if stored.shape[-1:] != (2,):
        raise ValueError(f"{path}: coords must be (N, 2), not {stored.shape}")
    stored = stored.reshape(-1, 2)
    if not np.isfinite(stored).all() or (stored != np.round(stored)).any():
        raise ValueError(f"{path}: coords are not whole level-0 pixels: are they in µm?")
    return stored.astype(np.int64)


def stored_grid(path: Path, coords: NDArray[np.int64], attrs: dict[str, Any]) -> PatchGrid:
    """Return the grid that coordinates and their attributes describe.

    Raises
    ------
    ValueError
        If a size is missing or not possible; names the file.
    """
    size, pixels = (int(number(path, attrs, name)) for name in ("patch_size_level0", "patch_size"))
    overlap = round((maybe_number(path, attrs, "overlap", least=0) or 0) * size / pixels)
    width, height = (maybe_number(path, attrs, f"level0_{side}", 0) for side in ("width", "height"))
    stride = maybe_number(path, attrs, "stride_level0") or size - overlap
    mpp = maybe_number(path, attrs, "mpp", least=1e-3)
    try:
        return PatchGrid(
            coords=coords,
            patch_size=size,
            stride=int(stride),
            pixels=pixels,
            mpp=mpp,
            slide_size=(int(width), int(height)) if width and height else None,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
