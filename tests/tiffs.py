"""TIFF files written tag by tag, so that a test decides every word of the header."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TILE = 64
_SHORT, _LONG, _RATIONAL, _ASCII = 3, 4, 5, 2
_LETTERS = {_SHORT: "H", _LONG: "I", _RATIONAL: "I"}


@dataclass(frozen=True)
class Header:
    """Color statements of a TIFF; None leaves a tag out."""

    photometric: int | None = 2
    compression: int = 1
    planar: int = 1
    extra: tuple[int, ...] | None = None
    subsampling: tuple[int, int] | None = None
    coefficients: tuple[float, ...] | None = None
    reference: tuple[int, ...] | None = None
    palette: NDArray[np.uint8] | None = None
    sample_format: int | None = None
    bits: int | None = None
    samples: int | None = None
    inks: int | None = None
    description: str = ""
    software: str = ""


def tissue(height: int = 200, width: int = 136) -> NDArray[np.uint8]:
    """Return smooth stained-looking RGB that survives chroma subsampling."""
    y, x = np.mgrid[:height, :width]
    wave = (np.sin(x / 23) + np.cos(y / 31) + 2) / 4
    bands = [120 + 110 * wave, 60 + 170 * wave**2, 150 + 70 * wave + 20 * np.sin(y / 40)]
    return np.clip(np.dstack(bands), 0, 255).astype(np.uint8)


def write_tiff(
    path: Path,
    samples: NDArray[np.uint8] | NDArray[np.uint16],
    header: Header,
    encode: Callable[[NDArray[np.generic]], bytes] | None = None,
) -> None:
    """Write (h, w, S) samples in tiles; `encode` makes the bytes of one tile."""
    height, width, bands = samples.shape
    planes = [samples] if header.planar == 1 else [samples[..., [b]] for b in range(bands)]
    tiles = [tile for plane in planes for tile in _tiles(plane)]
    write_blocks(
        path,
        [tile.tobytes() if encode is None else encode(tile) for tile in tiles],
        (height, width, bands),
        8 * samples.itemsize,
        header,
    )


def write_blocks(
    path: Path, blocks: Sequence[bytes], shape: tuple[int, int, int], bits: int, header: Header
) -> None:
    """Write encoded tiles of an image of this shape under a header."""
    out = bytearray(b"II*\0" + bytes(4))
    offsets = []
    for block in blocks:
        offsets.append(len(out))
        out += block + b"\0" * (len(block) % 2)
    entries = sorted(_entries(header, shape, bits, offsets, [len(block) for block in blocks]))
    directory = bytearray(struct.pack("<H", len(entries)))
    for tag, kind, values in entries:
        data = values if isinstance(values, bytes) else _packed(kind, values)
        count = len(data) if kind == _ASCII else len(data) // {3: 2, 4: 4, 5: 8}[kind]
        if len(data) > 4:
            at = len(out)
            out += data + b"\0" * (len(data) % 2)
            data = struct.pack("<I", at)
        directory += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    struct.pack_into("<I", out, 4, len(out))
    path.write_bytes(bytes(out + directory + bytes(4)))


def _entries(
    header: Header, shape: tuple[int, int, int], bits: int, offsets: list[int], sizes: list[int]
) -> list[tuple[int, int, object]]:
    height, width, bands = shape
    bands = header.samples or bands
    entries: list[tuple[int, int, object]] = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [header.bits or bits] * bands),
        (259, _SHORT, [header.compression]),
        (277, _SHORT, [bands]),
        (282, _RATIONAL, [20000, 1]),
        (283, _RATIONAL, [20000, 1]),
        (284, _SHORT, [header.planar]),
        (296, _SHORT, [3]),
        (322, _LONG, [TILE]),
        (323, _LONG, [TILE]),
        (324, _LONG, offsets),
        (325, _LONG, sizes),
    ]
    optional: list[tuple[int, int, object]] = [
        (262, _SHORT, None if header.photometric is None else [header.photometric]),
        (270, _ASCII, header.description.encode() + b"\0" if header.description else None),
        (305, _ASCII, header.software.encode() + b"\0" if header.software else None),
        (332, _SHORT, None if header.inks is None else [header.inks]),
        (
            320,
            _SHORT,
            None if header.palette is None else (header.palette.T.astype(int) * 257).ravel(),
        ),
        (338, _SHORT, header.extra),
        (339, _SHORT, None if header.sample_format is None else [header.sample_format] * bands),
        (529, _RATIONAL, _fractions(header.coefficients)),
        (530, _SHORT, header.subsampling),
        (532, _RATIONAL, _fractions(header.reference)),
    ]
    return entries + [entry for entry in optional if entry[2] is not None]


def _fractions(values: Sequence[float] | None) -> list[int] | None:
    if values is None:
        return None
    return [number for value in values for number in (round(value * 10000), 10000)]


def _packed(kind: int, values: object) -> bytes:
    numbers = [int(value) for value in values]  # type: ignore[attr-defined]
    return struct.pack(f"<{len(numbers)}{_LETTERS[kind]}", *numbers)


def _tiles(plane: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Return full tiles, the last row and column repeated over the border."""
    height, width, _ = plane.shape
    padded = np.pad(plane, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
    return [
        np.ascontiguousarray(padded[y : y + TILE, x : x + TILE])
        for y in range(0, padded.shape[0], TILE)
        for x in range(0, padded.shape[1], TILE)
    ]
