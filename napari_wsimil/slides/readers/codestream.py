"""Color statements in JPEG and JPEG 2000 headers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tifffile import TiffPage

#: Bytes at the start of a block that are searched for its header.
_HEAD = 2**18
_SYCC = 18  # sYCC in the color box of a JP2 file


@dataclass(frozen=True)
class JpegHeader:
    """Color statements of a JPEG block.

    Attributes
    ----------
    jfif
        Whether the block has a JFIF marker: its colors are YCbCr, or gray.
    adobe_transform
        Transform of the Adobe marker: 0 RGB or CMYK, 1 YCbCr, 2 YCCK; None without one.
    components
        Identifiers of its components.
    subsampled
        Whether the components differ in resolution, which RGB never does.
    """

    jfif: bool
    adobe_transform: int | None
    components: tuple[int, ...]
    subsampled: bool

    @property
    def rgb(self) -> bool:
        """True if decoders interpret the components as RGB."""
        if self.jfif or self.adobe_transform is not None:
            return self.adobe_transform == 0 and not self.jfif
        return self.components == tuple(b"RGB")


@dataclass(frozen=True)
class Jpeg2000Header:
    """Color statements of a JPEG 2000 block.

    Attributes
    ----------
    converted
        Whether the decoder turns YCbCr into RGB: color is subsampled, or a box states sYCC.
    transformed
        Whether the codec's own transform was used, which is defined only for RGB.
    """

    converted: bool
    transformed: bool


def sample_blocks(page: TiffPage) -> Iterator[bytes]:
    """Yield heads of a page's first, middle, last block."""
    stored = [
        (offset, count)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        if count > 0
    ]
    file = page.parent.filehandle
    for index in sorted({0, len(stored) // 2, len(stored) - 1} if stored else ()):
        offset, count = stored[index]
        file.seek(offset)
        yield file.read(min(count, _HEAD))


def jpeg_header(block: bytes) -> JpegHeader | None:
    """Parse a JPEG block's header; None if damaged."""
    jfif, adobe, at = False, None, 2
    if block[:2] != b"\xff\xd8":
        return None
    try:
        while True:
            start, marker, length = struct.unpack_from(">BBH", block, at)
            body = block[at + 4 : at + 2 + length]
            if start != 0xFF or length < 2:
                return None
            if marker == 0xE0 and body[:4] == b"JFIF":
                jfif = True
            elif marker == 0xEE and body[:5] == b"Adobe":
                adobe = body[11]
            elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                fields = [body[6 + 3 * index : 9 + 3 * index] for index in range(body[5])]
                sampling = {field[1] for field in fields}
                return JpegHeader(jfif, adobe, tuple(f[0] for f in fields), len(sampling) > 1)
            at += 2 + length
    except (struct.error, IndexError):
        return None


def jpeg2000_header(block: bytes) -> Jpeg2000Header | None:
    """Parse a JPEG 2000 block's header; None if damaged."""
    start = block.find(b"\xff\x4f\xff\x51")  # start of codestream, then size
    if start < 0:
        return None
    box = block.find(b"colr", 0, start)
    try:
        sycc = box >= 0 and struct.unpack_from(">BxxI", block, box + 4) == (1, _SYCC)
        (count,) = struct.unpack_from(">H", block, start + 40)
        steps = {block[start + 43 + 3 * index : start + 45 + 3 * index] for index in range(count)}
        at = start + 2
        while block[at : at + 2] != b"\xff\x52":  # coding style
            at += 2 + struct.unpack_from(">H", block, at + 2)[0]
        return Jpeg2000Header(sycc or len(steps) > 1, block[at + 8] == 1)
    except (struct.error, IndexError):
        return None
