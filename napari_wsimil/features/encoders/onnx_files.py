"""External weight files of an ONNX model, without loading it.

An ONNX file may store its tensors in other files, named by `external_data` (onnx.proto3).
Two encoders can then have identical .onnx files. The file is in protocol buffers; only the
messages that lead to a tensor's `external_data` are parsed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.encoders.base import hash_file

if TYPE_CHECKING:
    from collections.abc import Iterator

#: By message, field numbers of nested messages that can contain tensors.
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
#: Maximum length of a file name.
_LONGEST_NAME = 255
#: Maximum nesting depth: attributes of nodes can contain graphs.
_DEEPEST = 64


def external_files(path: Path | str) -> tuple[Path, ...]:
    """Return the sorted external weight files of an ONNX model.

    Raises
    ------
    ValueError
        If it is not an ONNX model, or names a missing file or one outside its folder.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        names = sorted(set(_locations(memoryview(data), "model", 0)))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable ONNX model (truncated)") from error
    return tuple(_inside(path, name) for name in names)


def hash_onnx(path: Path | str) -> str:
    """Return the SHA-256 of an ONNX model and weight files.

    Hexadecimal. Without external weight files it is the hash of the file alone.

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
    """Return the path of a weight file.

    Raises
    ------
    ValueError
        If it is elsewhere or missing.
    """
    folder = path.parent.resolve()
    if not name.isprintable() or "\\" in name:
        raise ValueError(f"{path}: its weight file has the name {name!r}, which is not allowed")
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
    """Yield number and bytes of each length-delimited field; skip others."""
    offset = 0
    while offset < len(message):
        tag, offset = _varint(message, offset)
        kind = tag & 7
        if kind == _BYTES:
            size, offset = _varint(message, offset)
            if offset + size > len(message):
                raise IndexError("a field is longer than its message")
            yield tag >> 3, message[offset : offset + size]
            offset += size
        elif kind == _VARINT:
            _, offset = _varint(message, offset)
        elif kind in (_FIXED64, _FIXED32):
            offset += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError(f"no field is of wire type {kind}")


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, offset
        if shift > 63:
            raise IndexError("a number is longer than 64 bits")
