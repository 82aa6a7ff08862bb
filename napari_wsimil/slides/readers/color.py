"""Conversion of a TIFF page's samples to RGB.

A page states its colors in several places: PhotometricInterpretation, ExtraSamples,
Compression, and the headers of its JPEG or JPEG 2000 blocks. These statements are compared
once, when the file is opened. Most pages decode to RGB and need no conversion. Others are
converted, delegated to OpenSlide if it reads them correctly, or rejected if the statements
contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.readers.codestream import (
    JpegHeader,
    jpeg2000_header,
    jpeg_header,
    sample_blocks,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffPage

#: Function from (h, w, S) samples to (h, w, 3) RGB.
Converter = Callable[["NDArray[np.uint8]"], "NDArray[np.uint8]"]

# PhotometricInterpretation
_INVERTED_GRAY, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {
    _INVERTED_GRAY: "WhiteIsZero",
    _GRAY: "BlackIsZero",
    _RGB: "RGB",
    _PALETTE: "Palette",
    _CMYK: "CMYK",
    _YCBCR: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
    10: "ITULAB",
}
_COLORS = {_INVERTED_GRAY: 1, _GRAY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
# ExtraSamples
_UNSPECIFIED, _PREMULTIPLIED, _ALPHA = 0, 1, 2
# Compression
_JPEG = {7, 33007, 34892}
_OLD_JPEG = 6
_APERIO_YCBCR, _APERIO_RGB = 33003, 33005
JPEG_2000 = {_APERIO_YCBCR, 33004, _APERIO_RGB, 34712}
_RGB_CODECS = {22610, 34933, 34934, 50001, 50002, 52546}  # JPEG XR, PNG, WebP, JPEG XL
# Tags
_COLOR_MAP, _INK_SET, _COEFFICIENTS, _REFERENCE = 320, 332, 529, 532

_BT601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
#: Chroma subsampling that libtiff, and therefore OpenSlide, reads correctly.
_OPENSLIDE_SUBSAMPLING = {(2, 2), (2, 1), (1, 2), (4, 1), (4, 2)}


class ColorError(SlideError):
    """The colors of a file are ambiguous or unsupported.

    Other readers are not tried, because they would guess the colors.
    """


def rgb_converter(page: TiffPage) -> Converter | None:
    """Return a page's converter to RGB; None if not needed.

    Raises
    ------
    ColorError
        The color statements contradict each other, or the conversion is not supported.
    SlideError
        OpenSlide reads these colors.
    """
    _check_samples(page)
    planar = page.planarconfig != 1 and page.samplesperpixel > 1
    if page.bitspersample != 8 or planar:
        raise _openslide_or_refuse(page)
    if page.compression in _JPEG:
        convert = _from_jpeg(page)
    elif page.compression in JPEG_2000:
        convert = _from_jpeg_2000(page)
    elif page.compression in _RGB_CODECS and page.photometric != _RGB:
        raise _contradiction(page, f"compression {int(page.compression)} is for RGB")
    else:
        convert = _from_samples(page)
    if _extra(page) == _ALPHA:
        return on_white
    return _premultiplied_on_white if _extra(page) == _PREMULTIPLIED else convert


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend RGBA onto white: transparent pixels were not scanned."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blend = rgba[..., :3].astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha)
    out: NDArray[np.uint8] = ((blend + 127) // 255).astype(np.uint8)
    return out


def _check_samples(page: TiffPage) -> None:
    """Raise ColorError unless samples are colors and optional alpha."""
    if page.compression == _OLD_JPEG:
        raise _unknown("JPEG of the obsolete compression 6")
    if 262 not in page.tags:
        raise _unknown("unknown, because PhotometricInterpretation is missing")
    if page.photometric not in _COLORS:
        raise _unknown(_name(page))
    if page.sampleformat != 1:
        raise _unknown(f"{_name(page)} in samples that are not unsigned integers")
    if page.photometric == _CMYK and page.tags.valueof(_INK_SET, 1) != 1:
        raise _unknown("in other inks than cyan, magenta, yellow and black")
    samples, extra = page.samplesperpixel, list(map(int, page.extrasamples))
    if samples != _COLORS[page.photometric] + len(extra):
        raise _contradiction(page, f"it has {samples} samples per pixel and ExtraSamples {extra}")
    allowed = ([], [_UNSPECIFIED], [_PREMULTIPLIED], [_ALPHA]) if _is_rgb(page) else ([],)
    if extra not in allowed:
        raise _unknown(f"{_name(page)} with further channels, ExtraSamples {extra}")


def _openslide_or_refuse(page: TiffPage) -> SlideError:
    """Return the error for samples that are not interleaved 8-bit."""
    kind = f"{page.bitspersample}-bit {_name(page)}, PlanarConfiguration {int(page.planarconfig)}"
    if page.extrasamples:
        kind += f", ExtraSamples {_extra(page)}"
    gray, jpeg = page.photometric in (_GRAY, _INVERTED_GRAY), page.compression in _JPEG
    cmyk = page.photometric == _CMYK and not jpeg
    read = {
        16: (gray or _is_rgb(page)) and not jpeg,
        8: _is_rgb(page) or cmyk or page.subsampling == (1, 1),
        **dict.fromkeys((1, 2, 4), (gray or page.photometric == _PALETTE) and not jpeg),
    }
    codec = page.compression in JPEG_2000 | _RGB_CODECS
    if not codec and _extra(page) != _UNSPECIFIED and read.get(page.bitspersample):
        return SlideError(f"its colors are {kind}, which only OpenSlide reads")
    return _unknown(kind)


def _from_samples(page: TiffPage) -> Converter | None:
    """Return the converter of a page with color-neutral compression."""
    if page.photometric == _YCBCR:
        subsampling = page.subsampling or (2, 2)
        if subsampling in _OPENSLIDE_SUBSAMPLING:
            raise SlideError(
                f"its colors are YCbCr subsampled by {subsampling}, which only OpenSlide reads"
            )
        if subsampling != (1, 1):
            raise _unknown(f"YCbCr subsampled by {subsampling}")
        return _from_ycbcr(
            _numbers(page, _COEFFICIENTS, _BT601), _numbers(page, _REFERENCE, _FULL_RANGE)
        )
    if page.photometric == _PALETTE:
        return _from_palette(page)
    grays: dict[int, Converter] = {_GRAY: _from_gray, _INVERTED_GRAY: _from_inverted_gray}
    return _from_cmyk if page.photometric == _CMYK else grays.get(page.photometric)


def _from_jpeg(page: TiffPage) -> Converter | None:
    """Return the converter of a JPEG page.

    The JPEG decoder itself turns YCbCr into RGB.
    """
    if page.photometric in (_CMYK, _PALETTE):
        raise _unknown(f"{_name(page)} in JPEG")
    if page.photometric in (_GRAY, _INVERTED_GRAY):
        return _from_samples(page)
    for header in filter(None, map(jpeg_header, sample_blocks(page))):
        if reason := _jpeg_contradiction(page, header):
            raise _contradiction(page, reason)
    coefficients = _numbers(page, _COEFFICIENTS, _BT601)
    if page.photometric == _YCBCR and not np.allclose(coefficients, _BT601, atol=2e-3):
        raise _contradiction(page, f"YCbCrCoefficients are {coefficients}, JPEG defines {_BT601}")
    reference = _numbers(page, _REFERENCE, _FULL_RANGE)
    if page.photometric == _YCBCR and reference not in (_FULL_RANGE, (0.0, 255.0) * 3):
        raise _contradiction(
            page, f"ReferenceBlackWhite is {reference}, JPEG defines {_FULL_RANGE}"
        )
    return None


def _jpeg_contradiction(page: TiffPage, header: JpegHeader) -> str:
    """Return a JPEG block's contradiction to its page, or empty.

    A JFIF block is YCbCr; its page's "RGB" then describes the decoded colors.
    """
    if page.photometric == _YCBCR:
        return "its JPEG blocks are RGB" if header.rgb else ""
    if header.jfif != page.is_jfif:
        return "some of its JPEG blocks are YCbCr"
    if header.adobe_transform or (header.subsampled and not header.jfif):
        return "its JPEG blocks are YCbCr"
    return ""


def _from_jpeg_2000(page: TiffPage) -> Converter | None:
    """Return the converter of a JPEG 2000 page.

    The decoder reverts the codec's own transform, and turns subsampled YCbCr and boxes that
    state sYCC into RGB. Aperio writes other YCbCr as compression 33003 and RGB as 33005,
    independent of PhotometricInterpretation. Bio-Formats writes RGB as 33003.
    """
    if page.photometric not in (_RGB, _YCBCR):
        return _from_samples(page)
    headers = set(filter(None, map(jpeg2000_header, sample_blocks(page))))
    if len(headers) > 1:
        raise _contradiction(page, "its JPEG 2000 blocks state different colors")
    if any(header.converted for header in headers):
        return None
    aperio = page.parent.is_svs and page.compression in (_APERIO_YCBCR, _APERIO_RGB)
    ycbcr = (page.compression if aperio else page.photometric) in (_APERIO_YCBCR, _YCBCR)
    transformed = any(header.transformed for header in headers)
    if ycbcr and transformed:
        number = "compression 33003 is YCbCr, and " if aperio else ""
        raise _contradiction(page, f"{number}its JPEG 2000 blocks are RGB")
    if ycbcr and page.compression == _APERIO_RGB:
        raise _contradiction(page, "compression 33005 is RGB")
    writer_known = aperio or page.parent.is_ome or "Bio-Formats" in page.software
    if page.compression == _APERIO_YCBCR and not (ycbcr or writer_known or transformed):
        raise _contradiction(
            page, "compression 33003 is YCbCr by Aperio or RGB by Bio-Formats, it names neither"
        )
    return _from_ycbcr(_BT601, _FULL_RANGE) if ycbcr else None


def _from_ycbcr(coefficients: tuple[float, ...], reference: tuple[float, ...]) -> Converter:
    """Return the YCbCr converter of TIFF 6.0, section 21."""
    red, green, blue = coefficients
    black, white = np.array(reference[::2], np.float32), np.array(reference[1::2], np.float32)
    if green == 0 or (white == black).any():
        raise _unknown(
            f"YCbCr with YCbCrCoefficients {coefficients}, ReferenceBlackWhite {reference}"
        )
    scale = np.array([255, 127, 127], np.float32) / (white - black)
    to_red, to_blue = 2 - 2 * red, 2 - 2 * blue
    matrix = (
        np.array(
            [
                [1, 0, to_red],
                [1, -to_blue * blue / green, -to_red * red / green],
                [1, to_blue, 0],
            ],
            np.float32,
        )
        * scale
    )
    shift = np.float32(0.5) - matrix @ black

    def convert(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rgb = samples.astype(np.float32) @ matrix.T + shift
        return np.clip(rgb, 0, 255).astype(np.uint8)

    return convert


def _from_palette(page: TiffPage) -> Converter:
    table = page.tags.valueof(_COLOR_MAP)
    colors = np.zeros((0, 3)) if table is None else np.asarray(table).reshape(3, -1).T
    if len(colors) != 256:
        raise _contradiction(page, f"it has a ColorMap of {len(colors)} colors")
    lookup: NDArray[np.uint8] = (colors // 257).astype(np.uint8)

    def convert(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rgb: NDArray[np.uint8] = lookup[samples[..., 0]]
        return rgb

    return convert


def _from_gray(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(samples[..., :1], 3, axis=2)


def _from_inverted_gray(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _from_gray(255 - samples)


def _from_cmyk(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert CMYK without a profile, as libtiff and Pillow do."""
    height, width = samples.shape[:2]
    image = Image.frombytes("CMYK", (width, height), np.ascontiguousarray(samples).tobytes())
    return np.array(image.convert("RGB"))


def _premultiplied_on_white(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    white = (255 - samples[..., 3:]).astype(np.uint16)
    rgb: NDArray[np.uint8] = np.minimum(samples[..., :3] + white, 255).astype(np.uint8)
    return rgb


def _is_rgb(page: TiffPage) -> bool:
    return bool(page.photometric == _RGB)


def _extra(page: TiffPage) -> int | None:
    return int(page.extrasamples[0]) if page.extrasamples else None


def _numbers(page: TiffPage, tag: int, default: tuple[float, ...]) -> tuple[float, ...]:
    """Return the numbers of a tag; rationals are pairs."""
    stored = page.tags.valueof(tag)
    if stored is None:
        return default
    try:
        if len(stored) == 2 * len(default):
            pairs = zip(stored[::2], stored[1::2], strict=True)
            stored = [Fraction(*pair) for pair in pairs]
        if len(stored) == len(default):
            return tuple(map(float, stored))
    except (TypeError, ValueError, ZeroDivisionError):
        pass  # reported below, like a wrong count
    raise _contradiction(page, f"its tag {tag} is {stored}, not {len(default)} numbers")


def _name(page: TiffPage) -> str:
    number = int(page.photometric)
    return f"{_NAMES.get(number, 'of an unknown kind')} (PhotometricInterpretation {number})"


def _unknown(kind: str) -> ColorError:
    return ColorError(f"its colors are {kind}, which is not supported: save it as 8-bit RGB")


def _contradiction(page: TiffPage, fact: str) -> ColorError:
    return ColorError(f"it states {_name(page)}, but {fact}: save it again with consistent colors")
