"""Slideflow: a plain tensor, and beside it the places and the settings it was made with."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_wsimil.features.importers.base import Stated, Tool, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PLACES, _CONFIG = ".index.npz", "bags_config.json"
#: What PyTorch's restricted reader raises of a file that is not as it should be.
_DAMAGE = (
    UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def state_tensor(path: Path | str) -> Stated:
    """Return what a `.pt` file says; with places beside it is Slideflow's, else features alone.

    Slideflow's places are the centers of tiles. The extractor's class is taken as a name
    and never looked for.

    Raises
    ------
    ValueError
        If the file is not one plain tensor, or what lies beside it is broken.
    """
    path = Path(path)
    tensor = read_tensor(path)
    shape = (int(tensor.shape[0]), int(tensor.shape[1]))
    beside = path.with_name(path.stem + _PLACES)
    if not beside.is_file():
        return Stated(path, Tool.NONE, shape, lambda: _rows(path))
    said = _settings(path.parent / _CONFIG)
    size, pixels = said.get("tile_um"), said.get("tile_px")
    extractor = said.get("extractor")
    name = extractor.get("class") if isinstance(extractor, dict) else extractor
    return Stated(
        path=path,
        tool=Tool.SLIDEFLOW,
        shape=shape,
        load=lambda: _rows(path),
        corners=_centers(beside),
        unit=Unit.PIXELS,
        centered=True,
        patch_um=float(size) if isinstance(size, int | float) and size > 0 else None,
        pixels=pixels if isinstance(pixels, int) and pixels > 0 else None,
        encoder=name if isinstance(name, str) else "",
    )


def read_tensor(path: Path | str) -> torch.Tensor:
    """Return the one (N, D) tensor in a file of PyTorch's; no code of the file is run.

    Raises
    ------
    ValueError
        If it holds anything else, is packed, or says it holds more than is stored.
    """
    path = Path(path)
    _check_archive(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: holds more than a plain tensor, and a pickle can run any program, so it "
            "is not opened: give the HDF5 file (.h5) that the same tool wrote"
        ) from error
    plain = type(found) is torch.Tensor and found.layout is torch.strided
    if not plain or found.ndim != 2 or not found.is_floating_point():
        what = f"tensor of {tuple(found.shape)}" if plain else type(found).__name__
        raise ValueError(f"{path}: holds a {what}, not one (N, D) tensor of features")
    if found.numel() * found.element_size() > found.untyped_storage().nbytes():
        raise ValueError(f"{path}: says that it is {tuple(found.shape)}, more than it stores")
    if len(found) == 0:
        raise ValueError(f"{path}: no patches in it")
    tensor: torch.Tensor = found
    return tensor


def _check_archive(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: a pickle can run any program, so it is not opened: give the HDF5 file "
            "(.h5) that the same tool wrote"
        )
    with zipfile.ZipFile(path) as archive:
        packed = [i.filename for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"{path}: {packed[0]} in it is packed, which PyTorch never does: broken?")


def _rows(path: Path) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = read_tensor(path).float().numpy()
    return rows


def _centers(path: Path) -> NDArray[np.float64]:
    """Return (N, 2) from `arr_0` of an archive of NumPy's, once its size is believed."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
            stored = archive.getinfo("arr_0.npy").file_size
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize > stored:
            raise ValueError(f"its array is said to be {shape} of {dtype}")
        with np.load(path, allow_pickle=False) as arrays:
            found = np.asarray(arrays["arr_0"], dtype=np.float64)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: holds no places that can be read ({error})") from error
    if found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise ValueError(f"{path}: places must be finite and (N, 2), not {found.shape}")
    return found


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON") from error
    return found if isinstance(found, dict) else {}
