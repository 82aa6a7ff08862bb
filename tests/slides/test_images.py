"""The slide opens, not another image of its file or folder."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from dicoms import write_dicom
from marked import GLASS, PINK
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from napari_wsimil import _reader
from napari_wsimil.cli.main import app
from napari_wsimil.slides.geometry import MppSource, SlideError, SlideImage
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from windows import Docks

    Part = tuple[str, NDArray[Any], float | None]


def pink(width: int, height: int) -> NDArray[np.uint8]:
    """Glass with a wide field of stain."""
    picture = np.full((height, width, 3), GLASS, np.uint8)
    picture[height // 4 : -height // 4, width // 4 : -width // 4] = PINK
    return picture


def write_ome(path: Path, parts: list[Part], compression: str = "jpeg") -> Path:
    """Write named images with µm per pixel as one OME-TIFF."""
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, pixels, mpp in parts:
            stated: dict[str, Any] = {"axes": "YXS" if pixels.ndim == 3 else "YX", "Name": name}
            for axis in "XY" if mpp else "":
                stated |= {f"PhysicalSize{axis}": mpp, f"PhysicalSize{axis}Unit": "µm"}
            photometric = "rgb" if pixels.ndim == 3 else "minisblack"
            tiff.write(
                pixels,
                tile=(128, 128),
                photometric=photometric,
                compression=compression if pixels.dtype == np.uint8 else "zlib",
                metadata=stated,
            )
    return path


@pytest.fixture
def macro_first(tmp_path: Path) -> Path:
    parts = [("macro of P-77", pink(500, 300), 16.0), ("P-77", pink(900, 800), 0.5)]
    return write_ome(tmp_path / "macro_first.ome.tif", parts)


NAMED = (
    "1 of 2 images in the file is open: P-77 (900 × 800 px); not open: macro of P-77 (500 × 300 px)"
)
NAMELESS = "1 of 2 images in the file is open: 900 × 800 px; not open: 500 × 300 px"


def test_the_slide_opens_and_not_the_macro_before_it(macro_first: Path) -> None:
    with open_slide(macro_first) as slide:
        assert slide.dimensions == (900, 800)
        assert (slide.resolution.mpp, slide.resolution.source) == (0.5, MppSource.OME)
        assert slide.images == (
            SlideImage("macro of P-77", (500, 300), 16.0),
            SlideImage("P-77", (900, 800), 0.5),
        )
        assert slide.image == 1
        assert slide.notes(names=True) == (NAMED,)
        assert slide.notes() == (NAMELESS,)
        patch = slide.read_patch(400, 400, 100, 50).astype(int)
        assert np.abs(patch - PINK).max() < 12


def test_a_file_of_many_images_is_described_in_one_line(tmp_path: Path) -> None:
    parts = [(f"scene {n}", pink(200 + n, 200), 0.5) for n in range(9)]
    with open_slide(write_ome(tmp_path / "many.ome.tif", parts)) as slide:
        assert slide.image == 8
        (note,) = slide.notes(names=True)
    assert note.startswith("1 of 9 images in the file is open: scene 8 (208 × 200 px); not open:")
    assert note.endswith("scene 4 (204 × 200 px), 3 more")


def test_a_macro_is_no_slide_however_large(tmp_path: Path) -> None:
    parts = [("slide", pink(300, 300), 0.5), ("Macro image", pink(900, 400), 9.0)]
    with open_slide(write_ome(tmp_path / "a.ome.tif", parts)) as slide:
        assert (slide.dimensions, slide.resolution.mpp) == ((300, 300), 0.5)


def test_pixels_that_are_no_slides_are_passed_over(tmp_path: Path) -> None:
    """A larger one-band mask, and a 16-bit picture before it."""
    deep, mask = np.full((200, 300), 900, np.uint16), np.zeros((1200, 1200), np.uint8)
    parts = [("scan", deep, 1.0), ("mask", mask, 0.25), ("stain", pink(700, 600), 0.5)]
    with open_slide(write_ome(tmp_path / "b.ome.tif", parts, "zlib")) as slide:
        assert (slide.dimensions, slide.resolution.mpp) == ((700, 600), 0.5)
        assert [image.name for image in slide.images] == ["scan", "mask", "stain"]


def test_a_plain_tiff_opens_its_largest_image_with_that_ones_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    with tifffile.TiffWriter(path) as tiff:
        for picture, per_cm in ((pink(300, 500), 1000), (pink(900, 700), 20_000)):
            tiff.write(
                picture,
                tile=(128, 128),
                photometric="rgb",
                metadata=None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    with open_slide(path) as slide:
        assert slide.dimensions == (900, 700)
        assert slide.resolution.mpp == pytest.approx(0.5)
        assert slide.resolution.source is MppSource.DERIVED
        assert [image.mpp for image in slide.images] == pytest.approx([10.0, 0.5])


def test_one_image_has_nothing_to_say(coded_slide: Path, small_slide: Path, data: Path) -> None:
    for path in (coded_slide, small_slide, data / "slides" / "CMU-1-Small-Region_dicom"):
        with open_slide(path) as slide:
            assert (len(slide.images), slide.image, slide.notes()) == (1, 0, ())
            assert slide.images[0].size == slide.dimensions
            assert slide.images[0].mpp == pytest.approx(slide.resolution.mpp)


def test_the_first_image_does_not_open_where_the_slide_cannot_be_read(macro_first: Path) -> None:
    """OpenSlide alone would open the macro of such a file."""
    whole = macro_first.read_bytes()
    macro_first.write_bytes(whole[: int(len(whole) * 0.9)])
    refused = r"truncated.*first image, 500 × 300 px, not the largest, 900 × 800 px"
    with pytest.raises(SlideError, match=refused):
        open_slide(macro_first)


@pytest.fixture
def two_studies(tmp_path: Path) -> Path:
    """A small slide of one series, a larger one of another."""
    folder = tmp_path / "case"
    one, two = generate_uid(), generate_uid()
    write_dicom(folder / "a.dcm", pink(300, 200), one, (0.001, 0.001))
    write_dicom(folder / "b.dcm", pink(250, 200), two, (0.001, 0.001))
    write_dicom(folder / "c.dcm", pink(500, 400), two, (0.0005, 0.0005))
    write_dicom(folder / "d.dcm", pink(900, 900), two, (0.01, 0.01), kind="OVERVIEW")
    return folder


def test_the_largest_slide_of_a_dicom_folder_opens(two_studies: Path) -> None:
    with open_slide(two_studies) as slide:
        assert slide.dimensions == (500, 400)
        assert [level.factors for level in slide.levels] == [(1, 1), (2, 2)]
        assert slide.images == (
            SlideImage("a.dcm", (300, 200), 1.0),
            SlideImage("c.dcm", (500, 400), 0.5),
        )
        assert slide.notes(names=True) == (
            "1 of 2 images in the folder is open: c.dcm (500 × 400 px); "
            "not open: a.dcm (300 × 200 px)",
        )
    with open_slide(two_studies / "a.dcm") as slide:
        assert (slide.dimensions, slide.notes()) == ((300, 200), ())


def test_info_lists_the_images(macro_first: Path) -> None:
    facts = json.loads(CliRunner().invoke(app, ["info", str(macro_first), "--json"]).stdout)
    assert facts["notes"] == [NAMED]
    assert [(image["name"], image["open"]) for image in facts["images"]] == [
        ("macro of P-77", False),
        ("P-77", True),
    ]
    assert facts["mpp_um"] == 0.5


def test_extraction_warns_of_the_other_images(macro_first: Path, tmp_path: Path) -> None:
    arguments = ["extract", str(macro_first), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"warning: macro_first.ome.tif: {NAMED}" in " ".join(result.stderr.split())


def test_napari_alone_warns_of_the_other_images(macro_first: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 2 images") as caught:
        layers = _reader.read_slides(str(macro_first))
    assert layers[1][0][0].shape[:2] == (800, 900)
    assert not any("P-77" in str(one.message) for one in caught)
    layers[1][1]["metadata"]["slide"].close()


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What napari was told to show."""
    from napari.utils.notifications import notification_manager

    texts: list[str] = []

    def note(notification: object) -> None:
        texts.append(str(notification))

    notification_manager.notification_ready.connect(note)
    yield texts
    notification_manager.notification_ready.disconnect(note)


def test_the_window_says_it_and_names_nobody_unasked(
    docks: Docks, macro_first: Path, warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        docks.slide.open(macro_first)
        docks.idle()
    docks.wait(lambda: docks.pane.slide is not None)
    assert NAMELESS in docks.slide.facts.text()
    assert any("1 of 2 images" in text for text in warned)
    assert not any("P-77" in text for text in (*warned, docks.slide.facts.text(), caplog.text))
    docks.slide.names.click()
    assert NAMED in docks.slide.facts.text()
