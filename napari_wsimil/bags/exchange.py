"""Exchange: bags that other tools wrote, each normalized to level-0 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.bags.hdf5 import number, open_h5, read_attrs, read_numbers
from napari_wsimil.bags.places import whole_coords
from napari_wsimil.bags.store import bag_of, load_bag
from napari_wsimil.space.grid import PatchGrid, modal_stride

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_wsimil.bags.bag import Bag


def open_bag(
    path: Path | str,
    *,
    patch_size: int | None = None,
    pixels: int | None = None,
    stride: int | None = None,
    patches: Path | str | None = None,
) -> Bag:
    """Return the bag in an HDF5 file of ours, TRIDENT's or CLAM's.

    A file with features alone is a bag without places. TRIDENT's and ours state their
    sizes and need none of the options; CLAM's do not.

    Parameters
    ----------
    path
        The file.
    patch_size
        Side of a patch in level-0 pixels.
    pixels
        Side of a patch as the encoder saw it; by default `patch_size`.
    stride
        Step between patches in level-0 pixels; by default the most frequent one.
    patches
        CLAM's file of patches of the same slide, which states the sizes.

    Raises
    ------
    ValueError
        If it is no such file, if a size is missing (the sentence says which option to
        give), or if features and coordinates do not belong together.
    """
    path = Path(path)
    _refuse_pickle(path)
    with open_h5(path) as file:
        if "features" not in file:
            raise ValueError(f"{path}: no features in it, only {sorted(file) or 'nothing'}")
        attrs = read_attrs(file["coords"]) if "coords" in file else None
        if attrs is not None and "patch_size_level0" in attrs:
            return load_bag(path)
        features = read_numbers(path, file["features"]).astype(np.float32, copy=False)
        encoder = str(read_attrs(file["features"]).get("encoder") or "")
        coords = None if attrs is None else whole_coords(path, file["coords"])
    grid = None
    if coords is not None:
        sizes = _sizes(path, coords, attrs or {}, patches)
        grid = _grid(
            path,
            coords,
            patch_size or sizes.get("patch_size"),
            pixels or sizes.get("pixels"),
            stride,
        )
    return bag_of(path, features, grid, encoder=encoder)


def _refuse_pickle(path: Path) -> None:
    if path.suffix in {".pt", ".pth", ".pkl"}:
        raise ValueError(
            f"{path}: a pickle can run any program, so it is not opened: give the HDF5 file "
            "(.h5) that the same tool wrote"
        )


def _sizes(
    path: Path, coords: NDArray[np.int64], attrs: dict[str, Any], patches: Path | str | None
) -> dict[str, int]:
    """Return the sizes that CLAM states with the coordinates, or in its file of patches."""
    if patches is None:
        return _clam_sizes(path, attrs)
    with open_h5(Path(patches)) as file:
        if "coords" not in file or not np.array_equal(file["coords"], coords):
            raise ValueError(f"{patches}: its coords are not those of {path}")
        return _clam_sizes(Path(patches), read_attrs(file["coords"]))


def _clam_sizes(path: Path, attrs: dict[str, Any]) -> dict[str, int]:
    """CLAM's patch size is in pixels of a level, whose downsample it states beside it."""
    if "patch_size" not in attrs or "downsample" not in attrs:
        return {}
    pixels = int(number(path, attrs, "patch_size"))
    downsample = number(path, attrs, "downsample")
    return {"pixels": pixels, "patch_size": round(pixels * downsample)}


def _grid(
    path: Path,
    coords: NDArray[np.int64],
    patch_size: int | None,
    pixels: int | None,
    stride: int | None,
) -> PatchGrid:
    if patch_size is None:
        raise ValueError(
            f"{path}: does not state how large a patch is: give patch_size (side in level-0 "
            "pixels; --patch-size), or patches (CLAM's file of patches of this slide)"
        )
    return PatchGrid(
        coords, patch_size, stride or modal_stride(coords) or patch_size, pixels or patch_size
    )
