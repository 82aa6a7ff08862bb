"""CLAM files: features with coordinates, and separate patch sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsimil.features.hdf5 import number, open_h5, read_attrs, read_numbers, whole_coords
from napari_wsimil.features.importers.base import Stated, Tool, Unit
from napari_wsimil.features.importers.trident import table_shape
from napari_wsimil.slides.readers.levels import level_factors

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray


def state_clam(path: Path | str, file: h5py.File, patches: Path | str | None = None) -> Stated:
    """Read a CLAM feature file, or features alone.

    Parameters
    ----------
    patches
        CLAM's patch file of the same slide, which states the sizes.

    Raises
    ------
    ValueError
        If features are missing, or the patch file has other coordinates.
    """
    path = Path(path)
    patches = None if patches is None else Path(patches)
    if "features" not in file:
        raise ValueError(
            f"{path}: no features in it, only {sorted(file) or 'nothing'}"
            + (": give the feature file, and this one as patches" if "coords" in file else "")
        )
    coords = whole_coords(path, file["coords"]) if "coords" in file else None
    sizes = {} if coords is None else _sizes(path, coords, read_attrs(file["coords"]), patches)
    return Stated(
        path=path,
        tool=Tool.NONE if coords is None else Tool.CLAM,
        shape=(0, 0) if file["features"].shape is None else table_shape(path, file["features"]),
        load=lambda: _features(path),
        corners=None if coords is None else coords.astype(np.float64),
        unit=Unit.NONE if coords is None else Unit.PIXELS,
        encoder=str(read_attrs(file["features"]).get("encoder") or ""),
        patch_size=sizes.get("patch_size"),
        pixels=sizes.get("pixels"),
    )


def beside(path: Path | str) -> Path | None:
    """Return CLAM's patch file for a feature file, or None."""
    path = Path(path)
    if path.suffix.lower() != ".h5":
        return None
    for folder in (path.parent / "patches", path.parent.parent / "patches"):
        if folder != path.parent and (folder / path.name).is_file():
            return folder / path.name
    return None


def _sizes(
    path: Path, coords: NDArray[np.int64], attrs: dict[str, Any], patches: Path | None
) -> dict[str, int]:
    """Return patch sizes from the coordinates or the patch file."""
    if patches is None:
        return _stated_sizes(path, attrs)
    with open_h5(patches) as file:
        if "coords" not in file or not np.array_equal(
            read_numbers(patches, file["coords"]), coords
        ):
            raise ValueError(f"{patches}: its coords differ from those of {path}")
        return _stated_sizes(patches, read_attrs(file["coords"]))


def _stated_sizes(path: Path, attrs: dict[str, Any]) -> dict[str, int]:
    """Convert CLAM's patch size to level-0 pixels.

    CLAM states it in pixels of a level, with the level's downsample beside it.
    """
    if "patch_size" not in attrs or "downsample" not in attrs:
        return {}
    pixels = int(number(path, attrs, "patch_size"))
    factor = _factor(path, attrs, pixels)
    if factor is None:
        return {"pixels": pixels}
    return {"pixels": pixels, "patch_size": round(pixels * factor)}


def _factor(path: Path, attrs: dict[str, Any], pixels: int) -> float | None:
    """Return the level's downsample; None if its axes disagree.

    CLAM states level-0 size over level size for each axis. On the short axis of an elongated
    slide this ratio differs from the level's downsample; the level's own size corrects it.
    """
    first = number(path, attrs, "downsample")
    x, y = (float(value) for value in np.broadcast_to(attrs["downsample"], 2))
    size = np.ravel(attrs.get("level_dim", ())).tolist()
    if len(size) == 2 and min(size) >= 1:
        x, y = level_factors((round(size[0] * x), round(size[1] * y)), (size[0], size[1]))
        first = x
    return first if abs(x - y) * pixels <= 1 else None


def _features(path: Path) -> NDArray[np.float32]:
    with open_h5(path) as file:
        return read_numbers(path, file["features"]).astype(np.float32, copy=False)
