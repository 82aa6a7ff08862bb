"""ONNX files: the weight files that a model names, listed without loading the model.

An ONNX file may keep its tensors in other files, named by `external_data` (onnx.proto3).
Two encoders can then share one .onnx file to the byte. The file is protocol buffers;
only the messages on the way to a tensor's `external_data` are read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.encoders.base import hash_file

if TYPE_CHECKING:
    from collections.abc import Iterator

#: By message, the numbers of its fields that hold messages in which tensors can be.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: No file's name is longer.
_LONGEST_NAME = 255
#: Graphs lie in attributes of nodes of graphs; nobody nests them deeper.
_DEEPEST = 64


def external_files(path: Path | str) -> tuple[Path, ...]:
    """Return the files in which an ONNX model keeps tensors, sorted by name; often none.

    Raises
    ------
    ValueError
        If it is no ONNX model, or names a file outside its folder or one that is missing.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        names = sorted(set(_locations(memoryview(data), "model", 0)))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable ONNX model (it is cut short)") from error
    return tuple(_inside(path, name) for name in names)


def hash_onnx(path: Path | str) -> str:
    """Return the SHA-256 of an ONNX model and its external weight files, hexadecimal.

    Without such files it is the hash of the file alone.

    Raises
    ------
    ValueError
        As `external_files`.
    """
    path = Path(path)
    files = external_files(path)
    own = hash_file(path)
    if not files:
        return own
    digest = hashlib.sha256(own.encode())
    for file in files:
        name = file.relative_to(path.parent.resolve()).as_posix()
        digest.update(f"\n{name} {hash_file(file)}".encode())
    return digest.hexdigest()


def _inside(path: Path, name: str) -> Path:
    """Return a file beside or below an ONNX model; ValueError if it lies elsewhere."""
    folder = path.parent.resolve()
    if not name.isprintable() or "\\" in name:
        raise ValueError(f"{path}: its weight file has the name {name!r}, which is not read")
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise ValueError(f"{path}: its weight file {name!r} is outside its folder: not read")
    if len(name) > _LONGEST_NAME or not file.is_file():
        raise ValueError(f"{path}: its weight file {name!r} is missing: put it beside the model")
    return file


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Yield the `location` of every external tensor in a message."""
    if depth > _DEEPEST:
        raise IndexError("messages are nested too deeply")
    for number, value in _fields(message):
        inner = _INSIDE[kind].get(number)
        if inner == "entry":
            entry = dict(_fields(value))
            if bytes(entry.get(1, b"")) == b"location":
                yield str(entry.get(2, b""), "utf-8")
        elif inner is not None:
            yield from _locations(value, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each field that has a length; numbers are passed over."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _BYTES:
            size, place = _varint(message, place)
            if place + size > len(message):
                raise IndexError("a field is longer than its message")
            yield tag >> 3, message[place : place + size]
            place += size
        elif kind == _VARINT:
            _, place = _varint(message, place)
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError(f"no field is of wire type {kind}")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise IndexError("a number is longer than 64 bits")
