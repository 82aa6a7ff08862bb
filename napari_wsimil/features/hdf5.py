"""HDF5 files: opened with clear errors, their attributes as plain values."""

from __future__ import annotations

import math
import mmap
import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np

from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


#: Errors of h5py, and of readers of zip and zarr, where bytes of a file are wrong.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    SystemError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)

#: Types of attributes that are read: numbers, texts, and truth values, which are enums.
_PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)

#: Bytes of the largest attribute that is read.
_LARGEST_ATTRIBUTE = 2**24

#: Deflate packs no tighter than this; what says it holds more than that is sparse.
_TIGHTEST = 1032

#: Signature, version 1 and three reserved bytes of a collection.
_HEAP_START = b"GCOL\x01\0\0\0"

#: Bytes before the first object, and those of the header of each.
_HEAP_HEADER = 16


class H5Error(ValueError):
    """A file of features is damaged or of no layout that is read; the message names it."""


@contextmanager
def open_h5(path: Path | str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; a context manager.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not HDF5, or something at its root is a link: to another file it would be
        followed unasked. Also if it turns out to be damaged inside the `with` block.
    """
    with damage_named(path), open_file(path) as file:
        yield file


@contextmanager
def damage_named(path: Path | str) -> Iterator[None]:
    """Turn errors at damaged bytes into an `H5Error` that names the file, or one beside it."""
    path = Path(path)
    try:
        yield
    except H5Error:
        raise
    except _DAMAGE as error:
        near = str(path.parent) if path.parent.name else str(path)
        named = str(path) in str(error) or near in str(error)
        if named and isinstance(error, OSError):
            raise
        # errors of h5py's own code describe the program, not the file
        slip = isinstance(error, (TypeError, AttributeError, SystemError))
        why = "its structure is broken" if slip else " ".join(str(error).split())
        damaged = f"{path}: damaged ({why}): write it again, or restore it from a backup"
        raise H5Error(str(error) if named else damaged) from error


def open_file(path: Path | str, mode: Literal["r", "r+"] = "r") -> h5py.File:
    """Return an open HDF5 file; otherwise as `open_h5`, damage inside is not named."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    _check_heaps(path)
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
    """Return attributes as plain values: bytes as text, `'None'` as None.

    References to other objects are passed over.

    Raises
    ------
    ValueError
        If one is of a type or size that no tool writes: h5py would crash on it.
    """
    names = [name for name in item.attrs if _is_value(name, item.attrs.get_id(name))]
    return {name: _plain(item.attrs[name]) for name in names}


def _is_value(name: str, attribute: h5py.h5a.AttrID) -> bool:
    kind = attribute.get_type()
    if kind.get_class() == h5py.h5t.VLEN and kind.get_super().get_class() == h5py.h5t.REFERENCE:
        return False
    size = math.prod(attribute.shape or ()) * kind.get_size()
    if kind.get_class() not in _PLAIN or size > _LARGEST_ATTRIBUTE:
        raise ValueError(f"attribute {name} is of a type or size that is not read")
    return True


def number(path: Path | str, attrs: dict[str, Any], name: str, least: float = 1) -> float:
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


def maybe_number(
    path: Path | str, attrs: dict[str, Any], name: str, least: float = 1
) -> float | None:
    """Return `number`, or None where the attribute is not there."""
    return None if attrs.get(name) is None else number(path, attrs, name, least)


def read_numbers(path: Path | str, dataset: Any) -> NDArray[Any]:
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


def reserve(path: Path | str, size: int) -> None:
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


def _check_heaps(path: Path) -> None:
    """Raise ValueError if an object of a global heap cannot be stepped over.

    Texts in attributes are stored in collections of objects that begin with "GCOL" (HDF5
    file format specification, III.E). On an object of no size the HDF5 library loops for
    ever, which no caller can stop.
    """
    if path.stat().st_size < len(_HEAP_START):
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(_HEAP_START)
        while place >= 0:
            if not _is_whole_heap(data, place):
                raise ValueError(f"{path}: damaged at byte {place}: restore it from a backup")
            place = data.find(_HEAP_START, place + len(_HEAP_START))


def _is_whole_heap(data: mmap.mmap, start: int) -> bool:
    """Return whether the objects of a collection fill it one after the other."""
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    place = start + _HEAP_HEADER
    while place + _HEAP_HEADER <= end:
        if place + _HEAP_HEADER > len(data):
            return False
        index = int.from_bytes(data[place : place + 2], "little")
        size = int.from_bytes(data[place + 8 : place + 16], "little")
        step = size if index == 0 else _HEAP_HEADER + -(-size // 8) * 8
        if step < _HEAP_HEADER or place + step > end:
            return False
        place += step
    return end <= len(data)


def whole_coords(path: Path | str, dataset: h5py.Dataset) -> NDArray[np.int64]:
    """Return (N, 2) coordinates; ValueError if they are not whole pixels."""
    stored = read_numbers(path, dataset)
    if stored.shape[-1:] != (2,):
        raise ValueError(f"{path}: coords must be (N, 2), not {stored.shape}")
    stored = stored.reshape(-1, 2)
    if not np.isfinite(stored).all() or (stored != np.round(stored)).any():
        raise ValueError(f"{path}: coords are not whole level-0 pixels: are they in µm?")
    return stored.astype(np.int64)


def stored_grid(path: Path | str, coords: NDArray[np.int64], attrs: dict[str, Any]) -> PatchGrid:
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
