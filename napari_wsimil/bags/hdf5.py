"""HDF5 files: opened with clear errors, their attributes as plain values."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Deflate packs no tighter than this; what says it holds more than that is sparse.
_TIGHTEST = 1032


def open_h5(path: Path | str, mode: Literal["r", "r+"] = "r") -> h5py.File:
    """Return an open HDF5 file, a context manager.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not HDF5, or broken, or something at its root is a link: to another file
        it would be followed unasked.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
    try:
        _refuse_links(path, file)
    except ValueError:
        file.close()
        raise
    return file


def _refuse_links(path: Path, file: h5py.File) -> None:
    for name in file:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            continue
        target = f"{getattr(link, 'filename', '')}:{link.path}".lstrip(":")
        raise ValueError(
            f"{path}: {name} is a link to {target}, not data: links are not followed; "
            "write the data into the file itself"
        )


def read_attrs(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return attributes as plain values: bytes as text, `'None'` as None."""
    return {name: _plain(value) for name, value in item.attrs.items()}


def number(path: Path, attrs: dict[str, Any], name: str, least: float = 1) -> float:
    """Return an attribute that is a number of at least `least`; of one per axis, the first.

    Raises
    ------
    ValueError
        If it is not there or no such number; names the file.
    """
    value = attrs.get(name)
    if isinstance(value, np.ndarray) and value.size:
        value = value.flat[0].item()
    if isinstance(value, int | float) and least <= value < math.inf:
        return value
    raise ValueError(
        f"{path}: its attribute {name} is {value!r}, not a number of at least {least:g}"
    )


def maybe_number(path: Path, attrs: dict[str, Any], name: str, least: float = 1) -> float | None:
    """Return `number`, or None where the attribute is not there."""
    return None if attrs.get(name) is None else number(path, attrs, name, least)


def read_numbers(path: Path, dataset: Any) -> NDArray[Any]:
    """Return all numbers of a dataset.

    Raises
    ------
    ValueError
        If it holds none, declares more of them than the file stores, or is broken.
    """
    filled = isinstance(dataset, h5py.Dataset) and dataset.shape is not None
    if not filled or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {dataset.name[1:]} is not an array of numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{path}: the data of {dataset.name[1:]} lie in other files: not followed")
    stored = dataset.id.get_storage_size()
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    if dataset.nbytes > stored * (_TIGHTEST if packed else 1):
        raise ValueError(
            f"{path}: {dataset.name[1:]} is said to be {dataset.shape}, "
            f"{dataset.nbytes / 1e6:.3g} MB, but {stored / 1e6:.3g} MB are stored: it is broken"
        )
    try:
        return np.asarray(dataset)
    except OSError as error:
        raise ValueError(f"{path}: {dataset.name[1:]} cannot be read ({error})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return None if isinstance(value, str) and value == "None" else value


def reserve(path: Path, size: int) -> None:
    """Make a file at least `size` bytes on the disk; OSError if there is no room."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        raise OSError(
            error.errno,
            f"no room for {size / 1e6:.1f} MB ({os.strerror(error.errno or 0)}); what was "
            "written is safe: free some space and start again to go on",
            str(path),
        ) from error
    finally:
        os.close(handle)
