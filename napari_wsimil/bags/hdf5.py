"""HDF5 files: opened with clear errors, their attributes as plain values."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


def open_h5(path: Path, mode: Literal["r", "r+"] = "r") -> h5py.File:
    """Return an open HDF5 file, a context manager.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not HDF5, or broken.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error


def read_attrs(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return attributes as plain values: bytes as text, `'None'` as None."""
    return {name: _plain(value) for name, value in item.attrs.items()}


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
