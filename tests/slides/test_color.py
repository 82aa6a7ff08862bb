"""Every color that a TIFF can state is converted to RGB, or the file is refused."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from tiffs import TILE, Header, tissue, write_blocks, write_tiff

from napari_wsimil.slides.slide import SlideError, open_slide
from napari_wsimil.slides.tissue import find_tissue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Encode = Callable[[NDArray[np.generic]], bytes]

RGB = tissue()
GRAY = np.repeat(RGB[..., :1], 3, axis=2)
ALPHA = np.full((*RGB.shape[:2], 1), 255, np.uint8)
ALPHA[60:120], ALPHA[120:140] = 0, 128
ON_WHITE = RGB * (ALPHA / 255) + 255 * (1 - ALPHA / 255)
PREMULTIPLIED = np.round(RGB * (ALPHA / 255)).astype(np.uint8)
BT601, BT709 = (0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722)
APERIO = "Aperio Image Library v12\r\n136x200 [0,0 136x200] (64x64)|AppMag = 20|MPP = 0.5"
#: Mean error below which pixels count as the truth; raw bands are 40 to 150 off.
CLOSE = 1.2
#: A 64-px tile of `tissue`, YCbCr subsampled by (2, 1) without a transform, by OpenJPEG.
SUBSAMPLED_JPEG_2000 = base64.b64decode(
    "/0//UQAvAAAAAABAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAADBwEBBwIBBwIB/1IADAAAAAEA"
    "BQQEAAD/XAAjQncgdvB28HbAbwBvAG7gZ1BnUGdoUAVQBVBHV9NX01di/2QAJQABQ3JlYXRlZCBieSBP"
    "cGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAABbQAB/5PH9ggDeilrNgztv8H6ggALUpBzwfqCAAre"
    "L0fA/IGgfkDQA+YGDkg5GBXfDBjwiqeJD1ZTwH3gcB94JAD5gYAIKx8LXiefC3OfwH3gcA+wDgB8wMAI"
    "9qcK83sLR5/AfYGwH2hcADggIWwhLaq1GerXeMkZdgDP9PF/JpBy81EdJG/APpEQD6gYF85W1AgT8aca"
    "CLS+ZT/APpEQB84WABwQF8SSbik3Ga8aCF5dGwMfwHzD4B8YkDY+bsBI31icXBX9a2h4/EODm8if0uXo"
    "G8A+YhAD4BQiG1ckex86BgFKnVKEUTupKSEqHb/APmIQA+AMIho/vdFG04XP6Q8y/2tIJDNfdcB8RGAd"
    "JGJYoEb5WcQ8sNtFqw+1tKpxoulQUdqsiPjUwDpANqFcgM2llNTAPgOANqEESsJViYBVB/u4WhDAGWCL"
    "RuchdtdGbyEnv8ASgF+u18+GwBwoix4Yk1//2Q=="
)


def ycbcr(
    rgb: NDArray[np.uint8], coefficients: tuple[float, ...] = BT601, video: bool = False
) -> NDArray[np.uint8]:
    """Return YCbCr of RGB, over the full range or that of video."""
    red, blue = rgb[..., 0].astype(float), rgb[..., 2].astype(float)
    luma = np.dot(rgb, coefficients)
    to_blue, to_red = 2 - 2 * coefficients[2], 2 - 2 * coefficients[0]
    chroma = np.stack([(blue - luma) / to_blue, (red - luma) / to_red], axis=2)
    if video:
        luma, chroma = 16 + luma * 219 / 255, chroma * 112 / 127
    bands = np.concatenate([luma[..., None], chroma + 128], axis=2)
    return np.clip(np.round(bands), 0, 255).astype(np.uint8)


def raw(tile: NDArray[np.generic]) -> bytes:
    return tile.tobytes()


def lzw(tile: NDArray[np.generic]) -> bytes:
    return imagecodecs.lzw_encode(tile.tobytes())


def deflate(tile: NDArray[np.generic]) -> bytes:
    return zlib.compress(tile.tobytes())


def subsampled(across: int, down: int) -> Encode:
    """Return an encoder of TIFF's data units: luma samples, then one Cb and one Cr."""

    def encode(tile: NDArray[np.generic]) -> bytes:
        units = tile.reshape(TILE // down, down, TILE // across, across, 3).swapaxes(1, 2)
        flat = units.reshape(-1, down * across, 3)
        chroma = flat[..., 1:].mean(axis=1).round().astype(np.uint8)
        return np.concatenate([flat[..., 0], chroma], axis=1).tobytes()

    return encode


def jpeg(**settings: object) -> Encode:
    def encode(tile: NDArray[np.generic]) -> bytes:
        pixels = tile[..., 0] if tile.shape[2] == 1 else tile
        return imagecodecs.jpeg8_encode(pixels, level=95, **settings)

    return encode


def jpeg_ycbcr(subsampling: str) -> Encode:
    return jpeg(colorspace="RGB", outcolorspace="YCbCr", subsampling=subsampling)


JPEG_RGB = jpeg(colorspace="RGB", outcolorspace="RGB")
JPEG_4 = jpeg(colorspace="CMYK", outcolorspace="CMYK")


def without_jfif(encode: Encode) -> Encode:
    """Return an encoder that leaves the JFIF marker out, as Aperio does."""

    def encode_bare(tile: NDArray[np.generic]) -> bytes:
        block = encode(tile)
        assert block[2:4] == b"\xff\xe0"
        return block[:2] + block[4 + int.from_bytes(block[4:6], "big") :]

    return encode_bare


def adobe(transform: int, encode: Encode) -> Encode:
    """Return an encoder whose blocks have an Adobe marker of this transform instead."""
    bare = without_jfif(encode)
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return lambda tile: b"\xff\xd8" + marker + bare(tile)[2:]


def jpeg_2000(transform: bool = False, box: str = "") -> Encode:
    settings = {"codecformat": "jp2", "colorspace": box} if box else {"codecformat": "j2k"}
    return lambda tile: imagecodecs.jpeg2k_encode(
        tile, level=0, reversible=True, mct=transform, **settings
    )


def webp(tile: NDArray[np.generic]) -> bytes:
    return imagecodecs.webp_encode(tile, lossless=True)


@dataclass(frozen=True)
class Case:
    """One statement of colors, and the RGB that it means or the reason of the refusal."""

    name: str
    samples: NDArray[np.uint8] | NDArray[np.uint16]
    header: Header
    encode: Encode = raw
    truth: NDArray[np.generic] = field(default_factory=lambda: RGB)
    refused: str = ""
    peers: str = ""  # of "OpenSlide" and "Pillow", those that read it right


def wide(samples: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return samples.astype(np.uint16) * 257


def plain_cases() -> Iterator[Case]:
    """Yield what compressions without colors can state, samples side by side or apart."""
    transparent = np.concatenate([RGB, ALPHA], axis=2)
    premultiplied = np.concatenate([PREMULTIPLIED, ALPHA], axis=2)
    cmyk = np.concatenate([255 - RGB, 0 * ALPHA], axis=2)
    both = "OpenSlide Pillow"
    for number, encode in ((1, raw), (5, lzw), (8, deflate)):
        for planar in (1, 2):
            at = f"{encode.__name__} {planar}"
            stored = {"compression": number, "planar": planar}

            def case(
                name: str,
                samples: NDArray[np.generic],
                at: str = at,
                encode: Encode = encode,
                stored: dict[str, int] = stored,
                truth: NDArray[np.generic] = RGB,
                refused: str = "",
                peers: str = "OpenSlide",
                **tags: object,
            ) -> Case:
                header = Header(**stored, **tags)
                return Case(f"{at} {name}", samples, header, encode, truth, refused, peers)

            for depth, widened in ((8, np.asarray), (16, wide)):
                peers = both if depth == 8 else "OpenSlide"
                yield case(f"RGB {depth}", widened(RGB), peers=peers)
                yield case(f"alpha {depth}", widened(transparent), truth=ON_WHITE, extra=(2,))
                yield case(
                    f"premultiplied {depth}", widened(premultiplied), truth=ON_WHITE, extra=(1,)
                )
            undefined = "" if planar == 1 else "ExtraSamples 0"
            yield case("unspecified", transparent, refused=undefined, peers="", extra=(0,))
            yield case("unstated", transparent, refused=r"4 samples .*ExtraSamples \[\]")
            yield case("CMYK", cmyk, peers=both, photometric=5)
            yield case("inks", cmyk, refused="cyan", photometric=5, inks=2)
            for name, constants, video in (
                ("601", BT601, 0),
                ("709", BT709, 0),
                ("video", BT601, 1),
            ):
                yield case(
                    f"YCbCr {name}",
                    ycbcr(RGB, constants, bool(video)),
                    photometric=6,
                    subsampling=(1, 1),
                    coefficients=None if constants is BT601 else constants,
                    reference=(16, 235, 128, 240, 128, 240) if video else None,
                )
            yield case("CIELAB", RGB, refused=r"CIELAB.*save it as 8-bit RGB", photometric=8)
            yield case("ICCLAB", RGB, refused="ICCLAB", photometric=9)
            yield case("no photometric", RGB, refused="is missing", photometric=None)
            yield case("gray of three", RGB, refused="BlackIsZero.*3 samples", photometric=1)
            yield case("signed", RGB, refused="unsigned", sample_format=2)


def gray_cases() -> Iterator[Case]:
    """Yield one sample per pixel, and subsampled YCbCr."""
    gray, palette = GRAY[..., :1], np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    for number, encode in ((1, raw), (5, lzw), (8, deflate)):

        def case(
            name: str,
            samples: NDArray[np.generic],
            truth: NDArray[np.generic],
            photometric: int,
            encode: Encode = encode,
            number: int = number,
            **rest: object,
        ) -> Case:
            header = Header(
                photometric=photometric,
                compression=number,
                palette=rest.pop("palette", None),
                extra=rest.pop("extra", None),
                planar=rest.pop("planar", 1),
            )
            return Case(f"{encode.__name__} {name}", samples, header, encode, truth, **rest)

        yield case("gray", gray, GRAY, 1, peers="OpenSlide Pillow")
        yield case("inverted", 255 - gray, GRAY, 0, peers="OpenSlide Pillow")
        yield case("gray 16", wide(gray), GRAY, 1, peers="OpenSlide")
        yield case("inverted 16", 65535 - wide(gray), GRAY, 0, peers="OpenSlide")
        yield case("gray apart", gray, GRAY, 1, planar=2, peers="OpenSlide")
        yield case("palette", gray, palette[gray[..., 0]], 3, palette=palette, peers="Pillow")
        two = np.concatenate([gray, ALPHA], axis=2)
        yield case("gray, alpha", two, GRAY, 1, extra=(2,), refused="further channels")
    for units in ((2, 2), (2, 1), (1, 2), (4, 1), (4, 2), (4, 4)):
        header = Header(photometric=6, subsampling=units)
        refused = "subsampled by" if units == (4, 4) else ""
        yield Case(
            f"subsampled {units}", ycbcr(RGB), header, subsampled(*units), RGB, refused, "OpenSlide"
        )
    for name, tags in (
        ("no green", {"coefficients": (0.5, 0.0, 0.5)}),
        ("no range", {"reference": (9, 9, 128, 255, 128, 255)}),
        ("two coefficients", {"coefficients": (0.3, 0.6)}),
    ):
        header = Header(photometric=6, subsampling=(1, 1), **tags)
        reason = "tag 529" if name == "two coefficients" else "YCbCrCoefficients"
        yield Case(name, ycbcr(RGB), header, refused=reason)
    yield Case("subsampled unstated", ycbcr(RGB), Header(photometric=6), subsampled(2, 2))


def jpeg_cases() -> Iterator[Case]:
    """Yield what page and JPEG header can state together."""
    full, both = {"compression": 7}, "OpenSlide Pillow"
    tagged = {"photometric": 6, **full}
    plain = jpeg_ycbcr("444")
    for name, units in (("444", (1, 1)), ("422", (2, 1)), ("420", (2, 2))):
        header = Header(**tagged, subsampling=units)
        encode = jpeg_ycbcr(name)
        yield Case(f"YCbCr {name}", RGB, header, encode, peers=both)
        yield Case(f"YCbCr bare {name}", RGB, header, without_jfif(encode), peers=both)
        yield Case(f"YCbCr adobe {name}", RGB, header, adobe(1, encode), peers=both)
        yield Case(f"RGB of JFIF {name}", RGB, Header(**full), encode)
        wrong = "JPEG blocks are YCbCr"
        yield Case(f"RGB adobe YCbCr {name}", RGB, Header(**full), adobe(1, encode), refused=wrong)
    yield Case("RGB bare 420", RGB, Header(**full), without_jfif(jpeg_ycbcr("420")), refused=wrong)
    header = Header(**tagged, subsampling=(1, 1))
    yield Case("RGB", RGB, Header(**full), JPEG_RGB, peers=both)
    yield Case("YCbCr of RGB", RGB, header, JPEG_RGB, refused="JPEG blocks are RGB")
    header = Header(**tagged, subsampling=(1, 1), coefficients=BT709)
    yield Case("YCbCr 709", RGB, header, plain, refused="YCbCrCoefficients")
    header = Header(**tagged, subsampling=(1, 1), reference=(16, 235, 128, 240, 128, 240))
    yield Case("YCbCr video", RGB, header, plain, refused="ReferenceBlackWhite")
    header = Header(**tagged, subsampling=(1, 1), reference=(0, 255, 128, 255, 128, 255))
    yield Case("YCbCr full", RGB, header, plain, peers=both)
    gray = GRAY[..., :1]
    yield Case("gray", gray, Header(photometric=1, **full), jpeg(), GRAY, peers=both)
    yield Case("inverted", 255 - gray, Header(photometric=0, **full), jpeg(), GRAY, peers=both)
    yield Case("apart RGB", RGB, Header(planar=2, **full), jpeg(), peers=both)
    cmyk = np.concatenate([255 - RGB, 0 * ALPHA], axis=2)
    yield Case("CMYK", cmyk, Header(photometric=5, **full), JPEG_4, refused="CMYK.* in JPEG")
    transparent = np.concatenate([RGB, ALPHA], axis=2)
    header = Header(extra=(2,), **full)
    yield Case("alpha", transparent, header, JPEG_4, ON_WHITE, peers="OpenSlide")
    header = Header(photometric=5, planar=2, **full)
    yield Case("apart CMYK", cmyk, header, jpeg(), refused="CMYK.*PlanarConfiguration 2")
    header = Header(photometric=6, planar=2, **full, subsampling=(1, 1))
    yield Case("apart YCbCr", ycbcr(RGB), header, jpeg(), peers="OpenSlide")
    yield Case("obsolete", RGB, Header(compression=6), plain, refused="obsolete compression 6")


def codec_cases() -> Iterator[Case]:
    """Yield what page and JPEG 2000 or WebP can state together."""
    for number in (33003, 33004, 33005, 34712):
        header, tagged = Header(compression=number), Header(photometric=6, compression=number)
        wrong = "RGB" if number == 33005 else ""
        yield Case(f"{number} RGB transformed", RGB, header, jpeg_2000(True))
        yield Case(f"{number} YCbCr", ycbcr(RGB), tagged, jpeg_2000(), refused=wrong)
        yield Case(f"{number} sYCC", ycbcr(RGB), tagged, jpeg_2000(box="SYCC"))
        contrary = "JPEG 2000 blocks are RGB"
        yield Case(f"{number} YCbCr of RGB", RGB, tagged, jpeg_2000(True), refused=contrary)
        refused = "33003 is YCbCr by Aperio or RGB by Bio-Formats" if number == 33003 else ""
        yield Case(f"{number} RGB", RGB, header, jpeg_2000(), refused=refused)
    aperio = Header(compression=33003, description=APERIO)
    yield Case("Aperio YCbCr", ycbcr(RGB), aperio, jpeg_2000(), peers="OpenSlide")
    yield Case("Aperio YCbCr of RGB", RGB, aperio, jpeg_2000(True), refused="33003 is YCbCr")
    aperio = Header(compression=33005, description=APERIO)
    yield Case("Aperio RGB", RGB, aperio, jpeg_2000(), peers="OpenSlide")
    yield Case("Aperio RGB transformed", RGB, aperio, jpeg_2000(True), peers="OpenSlide")
    formats = Header(compression=33003, software="OME Bio-Formats 7.3.1")
    yield Case("Bio-Formats RGB", RGB, formats, jpeg_2000())
    transparent = np.concatenate([RGB, ALPHA], axis=2)
    header = Header(compression=33005, extra=(2,))
    yield Case("33005 alpha", transparent, header, jpeg_2000(), ON_WHITE)
    yield Case("WebP", RGB, Header(compression=50001), webp)
    header = Header(compression=50001, extra=(2,))
    yield Case("WebP alpha", transparent, header, webp, ON_WHITE)
    header = Header(photometric=6, compression=50001)
    yield Case("WebP YCbCr", RGB, header, webp, refused="compression 50001 is for RGB")


CASES = [*plain_cases(), *gray_cases(), *jpeg_cases(), *codec_cases()]
REFUSED = [case for case in CASES if case.refused]
READ = [case for case in CASES if not case.refused]


def whole(path: Path) -> NDArray[np.float64]:
    with open_slide(path) as slide:
        return slide.read_region(0, 0, *slide.dimensions).astype(float)


def laid_on_white(image: Image.Image) -> NDArray[np.float64]:
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_untrue_pixels_are_refused_at_opening(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    write_tiff(path, case.samples, case.header, case.encode)
    with pytest.raises(SlideError, match=rf"slide\.tif .*{case.refused}") as refusal:
        open_slide(path)
    assert "OpenSlide reports" not in str(refusal.value)  # it was not left to guess


@pytest.mark.parametrize("case", READ, ids=[case.name for case in READ])
def test_pixels_that_are_read_are_true(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    write_tiff(path, case.samples, case.header, case.encode)
    ours = whole(path)
    assert abs(ours - case.truth).mean() < CLOSE
    if "OpenSlide" in case.peers:
        with openslide.OpenSlide(path) as other:
            theirs = laid_on_white(other.read_region((0, 0), 0, other.dimensions))
        assert abs(ours - theirs).mean() < CLOSE
    if "Pillow" in case.peers:
        with Image.open(path) as image:
            assert abs(ours - laid_on_white(image)).mean() < CLOSE


@pytest.mark.parametrize(("number", "photometric"), [(33003, 2), (33003, 6), (34712, 6)])
def test_subsampled_jpeg_2000_is_converted_once(
    tmp_path: Path, number: int, photometric: int
) -> None:
    path = tmp_path / "subsampled.svs"
    header = Header(photometric=photometric, compression=number, description=APERIO)
    write_blocks(path, [SUBSAMPLED_JPEG_2000], (TILE, TILE, 3), 8, header)
    assert abs(whole(path) - tissue()[:TILE, :TILE]).mean() < CLOSE


def test_blocks_of_two_kinds_are_refused(tmp_path: Path) -> None:
    blocks = [jpeg_ycbcr("444")(RGB[:TILE, :TILE])] + 11 * [JPEG_RGB(RGB[:TILE, :TILE])]
    write_blocks(tmp_path / "mixed.tif", blocks, RGB.shape, 8, Header(compression=7))
    with pytest.raises(SlideError, match="some of its JPEG blocks are YCbCr"):
        open_slide(tmp_path / "mixed.tif")
    tile = np.ascontiguousarray(RGB[:TILE, :TILE])
    blocks = [jpeg_2000()(tile)] + 11 * [jpeg_2000(True)(tile)]
    header = Header(photometric=6, compression=34712)
    write_blocks(tmp_path / "mixed.tif", blocks, RGB.shape, 8, header)
    with pytest.raises(SlideError, match="blocks state different colors"):
        open_slide(tmp_path / "mixed.tif")


def test_a_damaged_first_tile_does_not_refuse_the_slide(tmp_path: Path) -> None:
    for number, encode in ((7, jpeg_ycbcr("420")), (34712, jpeg_2000(True))):
        block = encode(np.ascontiguousarray(RGB[:TILE, :TILE]))
        photometric = 6 if number == 7 else 2
        header = Header(photometric=photometric, compression=number, subsampling=(2, 2))
        path = tmp_path / f"{number}.tif"
        write_blocks(path, [b"\xde\xad" * 200, *11 * [block]], RGB.shape, 8, header)
        with open_slide(path) as slide:
            good = slide.read_region(TILE, 0, TILE, TILE)
        assert abs(good.astype(float) - RGB[:TILE, :TILE]).mean() < CLOSE


def test_transparent_pixels_are_glass(tmp_path: Path) -> None:
    """The left half is opaque; under the clear right half stained colors are stored."""
    rgba = np.zeros((1024, 1024, 4), np.uint8)
    rgba[..., :3] = 150, 60, 140
    rgba[:, :512, 3] = 255
    write_tiff(tmp_path / "clear.tif", rgba, Header(extra=(2,)))
    with open_slide(tmp_path / "clear.tif") as slide:
        assert (slide.read_patch(640, 512, 256, 64) == 255).all()
        assert (slide.read_patch(128, 256, 256, 64) == [150, 60, 140]).all()
        assert find_tissue(slide).mask.mean() == pytest.approx(1 / 2, rel=0.05)


@pytest.fixture
def labeled_slide(tmp_path: Path) -> Path:
    """An Aperio slide whose label is inverted gray and whose macro is transparent."""
    path = tmp_path / "labeled.svs"
    clear = np.concatenate([RGB, ALPHA], axis=2)
    kinds = {"metadata": None, "software": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(RGB, tile=(64, 64), photometric="rgb", description=APERIO, **kinds)
        tiff.write(RGB[::4, ::4], photometric="rgb", **kinds)
        label, macro = (
            f"Aperio Image Library v12\r\n{name} 136x200" for name in ("label", "macro")
        )
        tiff.write(
            255 - RGB[..., 0], photometric="miniswhite", description=label, subfiletype=1, **kinds
        )
        tiff.write(
            clear,
            photometric="rgb",
            extrasamples=["unassalpha"],
            description=macro,
            subfiletype=9,
            **kinds,
        )
    return path


def test_label_and_macro_have_their_colors(labeled_slide: Path) -> None:
    with open_slide(labeled_slide) as slide:
        np.testing.assert_array_equal(slide.associated("label"), GRAY)
        assert abs(slide.associated("macro") - ON_WHITE).max() <= 1
        np.testing.assert_array_equal(slide.associated("thumbnail"), RGB[::4, ::4])


def test_a_label_of_unknown_colors_does_not_refuse_the_slide(tmp_path: Path) -> None:
    path = tmp_path / "labeled.svs"
    kinds = {"metadata": None, "software": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(RGB, tile=(64, 64), photometric="rgb", description=APERIO, **kinds)
        tiff.write(RGB[::4, ::4], photometric="rgb", **kinds)
        label = "Aperio Image Library v12\r\nlabel 136x200"
        tiff.write(RGB, photometric="cielab", description=label, subfiletype=1, **kinds)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 136, 200), RGB)
        with pytest.raises(SlideError, match=r"labeled\.svs: image 'label' .*CIELAB"):
            slide.associated("label")
