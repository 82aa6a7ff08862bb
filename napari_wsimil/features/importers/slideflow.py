"""Slideflow bags: a tensor, with coordinates and settings beside it."""

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
#: Errors of PyTorch's restricted reader on an invalid file.
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
    """Read a `.pt` file of Slideflow, or of features alone.

    It is Slideflow's if a file of coordinates is beside it. Slideflow's coordinates are tile
    centers. The extractor's class is used as a name and never imported.

    Raises
    ------
    ValueError
        If the file is not one plain tensor, or a file beside it is invalid.
    """
    path = Path(path)
    tensor = read_tensor(path)
    shape = (int(tensor.shape[0]), int(tensor.shape[1]))
    beside = path.with_name(path.stem + _PLACES)
    if not beside.is_file():
        return Stated(path, Tool.NONE, shape, lambda: _rows(path))
    settings = _settings(path.parent / _CONFIG)
    size, pixels = settings.get("tile_um"), settings.get("tile_px")
    extractor = settings.get("extractor")
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
    """Return the (N, D) tensor of a PyTorch file.

    No code of the file is executed.

    Raises
    ------
    ValueError
        If it has other content, is compressed, or declares more data than it stores.
    """
    path = Path(path)
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: not opened: it has more than a plain tensor, and a pickle can run any "
            "program. Give the HDF5 file (.h5) that the same tool wrote"
        ) from error
    plain = type(content) is torch.Tensor and content.layout is torch.strided
    if not plain or content.ndim != 2 or not content.is_floating_point():
        kind = f"tensor of {tuple(content.shape)}" if plain else type(content).__name__
        raise ValueError(f"{path}: contains a {kind}, not one (N, D) tensor of features")
    if content.numel() * content.element_size() > content.untyped_storage().nbytes():
        raise ValueError(
            f"{path}: declared as {tuple(content.shape)}, more than is stored: damaged"
        )
    if len(content) == 0:
        raise ValueError(f"{path}: no patches in it")
    tensor: torch.Tensor = content
    return tensor


def _check_archive(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: not opened: a pickle can run any program. Give the HDF5 file (.h5) that "
            "the same tool wrote"
        )
    with zipfile.ZipFile(path) as archive:
        compressed = [
            i.filename for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED
        ]
    if compressed:
        raise ValueError(f"{path}: {compressed[0]} in it is compressed, unlike PyTorch's: damaged?")


def _rows(path: Path) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = read_tensor(path).float().numpy()
    return rows


def _centers(path: Path) -> NDArray[np.float64]:
    """Return (N, 2) coordinates from `arr_0` of a NumPy archive.

    Its declared size is checked against the stored bytes first.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
            stored = archive.getinfo("arr_0.npy").file_size
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize > stored:
            raise ValueError(f"its array is declared as {shape} of {dtype}")
        with np.load(path, allow_pickle=False) as arrays:
            centers = np.asarray(arrays["arr_0"], dtype=np.float64)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no readable coordinates ({error})") from error
    if centers.ndim != 2 or centers.shape[1] != 2 or not np.isfinite(centers).all():
        raise ValueError(f"{path}: coordinates must be finite and (N, 2), not {centers.shape}")
    return centers


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON") from error
    return settings if isinstance(settings, dict) else {}
