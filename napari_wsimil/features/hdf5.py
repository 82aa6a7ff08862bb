"""Safe reading of HDF5 files, with clear errors."""

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


#: Errors of h5py and of the zip and zarr readers on damaged bytes.
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

#: Attribute types that are read: numbers, texts, and booleans, which are enums.
_PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM)

#: Size limit of an attribute in bytes.
_LARGEST_ATTRIBUTE = 2**24

#: Highest compression ratio of Deflate; data declared larger than that are sparse.
_TIGHTEST = 1032

#: Signature, version 1 and three reserved bytes of a heap collection.
_HEAP_START = b"GCOL\x01\0\0\0"

#: Bytes before the first object, equal to the bytes of an object header.
_HEAP_HEADER = 16


class H5Error(ValueError):
    """Error for a damaged or unsupported feature file.

    The message names the file.
    """


@contextmanager
def open_h5(path: Path | str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, as a context manager.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not HDF5, or its root contains a link, which HDF5 would follow into
        other files. Also if damage is detected inside the `with` block.
    """
    with damage_named(path), open_file(path) as file:
        yield file


@contextmanager
def damage_named(path: Path | str) -> Iterator[None]:
    """Convert errors on damaged bytes into an `H5Error`.

    The message names the file, or a file beside it.
    """
    path = Path(path)
    try:
        yield
    except H5Error:
        raise
    except _DAMAGE as error:
        parent = str(path.parent) if path.parent.name else str(path)
        named = str(path) in str(error) or parent in str(error)
        if named and isinstance(error, OSError):
            raise
        # errors in h5py's own code describe the program, not the file
        internal = isinstance(error, (TypeError, AttributeError, SystemError))
        why = "its structure is invalid" if internal else " ".join(str(error).split())
        damaged = f"{path}: damaged ({why}). Write it again, or restore it from a backup"
        raise H5Error(str(error) if named else damaged) from error


def open_file(path: Path | str, mode: Literal["r", "r+"] = "r") -> h5py.File:
    """Open an HDF5 file and return it.

    Errors are those of `open_h5`, but later damage is not converted.
    """
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
            f"{path}: {name} is a link to {target}, not data: links are not followed. "
            "Write the data into the file itself"
        )


def read_attrs(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Return attributes as plain values.

    Bytes become text, and `'None'` becomes None.

    References to other objects are skipped.

    Raises
    ------
    ValueError
        If one has a type or size that no tool writes: h5py would crash on it.
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
    """Return a numeric attribute of at least `least`.

    Of one number per axis, the first is returned.

    Raises
    ------
    ValueError
        If it is missing, not a number or too small; the message names the file.
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
    """Return `number`, or None if the attribute is missing."""
    return None if attrs.get(name) is None else number(path, attrs, name, least)


def read_numbers(path: Path | str, dataset: Any) -> NDArray[Any]:
    """Return all numbers of a dataset.

    Raises
    ------
    ValueError
        If it is not numeric, declares more data than the file stores, or is damaged.
    """
    filled = isinstance(dataset, h5py.Dataset) and dataset.shape is not None
    if not filled or dataset.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {dataset.name[1:]} is not an array of numbers")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{path}: the data of {dataset.name[1:]} are in other files: not followed")
    stored_bytes = dataset.id.get_storage_size()
    compressed = dataset.id.get_create_plist().get_nfilters() > 0
    if dataset.nbytes > stored_bytes * (_TIGHTEST if compressed else 1):
        raise ValueError(
            f"{path}: {dataset.name[1:]} is declared as {dataset.shape}, "
            f"{dataset.nbytes / 1e6:.3g} MB, but only {stored_bytes / 1e6:.3g} MB stored: damaged"
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
    """Allocate at least `size` bytes on disk for a file.

    Raises
    ------
    OSError
        If the disk is full.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        raise OSError(
            error.errno,
            f"no room for {size / 1e6:.1f} MB ({os.strerror(error.errno or 0)}). Rows already "
            "written are safe: free disk space and run again to resume",
            str(path),
        ) from error
    finally:
        os.close(handle)


def _check_heaps(path: Path) -> None:
    """Raise ValueError for a global heap with invalid object sizes.

    Texts in attributes are stored in collections of objects that begin with "GCOL" (HDF5
    file format specification, III.E). On an object of size 0 the HDF5 library loops
    forever, and no caller can stop it.
    """
    if path.stat().st_size < len(_HEAP_START):
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_HEAP_START)
        while start >= 0:
            if not _is_whole_heap(data, start):
                raise ValueError(f"{path}: damaged at byte {start}. Restore it from a backup")
            start = data.find(_HEAP_START, start + len(_HEAP_START))


def _is_whole_heap(data: mmap.mmap, start: int) -> bool:
    """Return whether consecutive objects fill a heap collection exactly."""
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    offset = start + _HEAP_HEADER
    while offset + _HEAP_HEADER <= end:
        if offset + _HEAP_HEADER > len(data):
            return False
        index = int.from_bytes(data[offset : offset + 2], "little")
        size = int.from_bytes(data[offset + 8 : offset + 16], "little")
        step = size if index == 0 else _HEAP_HEADER + -(-size // 8) * 8
        if step < _HEAP_HEADER or offset + step > end:
            return False
        offset += step
    return end <= len(data)


def whole_coords(path: Path | str, dataset: h5py.Dataset) -> NDArray[np.int64]:
    """Return (N, 2) int64 coordinates.

    Raises
    ------
    ValueError
        If they are not whole pixels.
    """
    stored = read_numbers(path, dataset)
    if stored.shape[-1:] != (2,):
        raise ValueError(f"{path}: coords must be (N, 2), not {stored.shape}")
    stored = stored.reshape(-1, 2)
    if not np.isfinite(stored).all() or (stored != np.round(stored)).any():
        raise ValueError(f"{path}: coords are not whole level-0 pixels: are they in µm?")
    return stored.astype(np.int64)


def stored_grid(path: Path | str, coords: NDArray[np.int64], attrs: dict[str, Any]) -> PatchGrid:
    """Return the grid described by coordinates and their attributes.

    Raises
    ------
    ValueError
        If a size is missing or invalid; the message names the file.
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
