"""DICOM levels are placed by pixel spacing and origin."""

from __future__ import annotations

import json
import logging
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
from dicoms import PATIENT, padded, write_dicom
from marked import Marked, middle
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from napari_wsimil.cli.main import app
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue

if TYPE_CHECKING:
    from pathlib import Path

MARKED = Marked((410, 350), (200, 160, 320, 280), (2.0, 4.0), ((math.ceil, math.ceil),) * 2)
MM = 0.002
#: Directions of rows and columns on the glass: a row runs along -y, a column along -x.
TURNED = [0, -1, 0, -1, 0, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A slide whose coarser levels are padded with black."""
    series = generate_uid()
    for number, (factor, pixels) in enumerate(zip((1, 2, 4), MARKED.levels(), strict=True)):
        whole = padded(pixels) if number else pixels
        write_dicom(tmp_path / f"{number}.dcm", whole, series, (MM * factor, MM * factor))
    return tmp_path


def test_openslide_places_padded_levels_by_their_padded_size(folder: Path) -> None:
    """The case is real: 410 / 256 px are 1.6, not 2."""
    with openslide.OpenSlide(folder / "0.dcm") as other:
        assert other.level_dimensions == ((410, 350), (256, 192), (128, 128))
        assert other.level_downsamples[1] == pytest.approx((410 / 256 + 350 / 192) / 2)


def test_padded_levels_lie_by_their_pixel_spacing(folder: Path) -> None:
    with open_slide(folder) as slide:
        assert [level.factors for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]
        assert [(level.width, level.height) for level in slide.levels] == MARKED.sizes
        for number, pixels in enumerate(MARKED.levels()):
            height, width = pixels.shape[:2]
            stored = slide.read_region(0, 0, width, height, level=number)
            assert np.abs(stored.astype(int) - pixels).max() <= 12  # it blends beside the mark
            np.testing.assert_allclose(middle(stored), middle(pixels), atol=0.05)
        picture, downsample = slide.thumbnail(110)
        assert picture.min() > 40  # no padding
        np.testing.assert_allclose(middle(picture) * downsample, MARKED.middle, atol=1)
        tissue = find_tissue(slide, 110)
        rows, columns = np.nonzero(tissue.mask)
        place = np.array([columns.mean(), rows.mean()]) + 0.5
        np.testing.assert_allclose(place * tissue.downsample, MARKED.middle, atol=4)
        assert (
            "level 1 (256 × 192 px): by its pixel spacing 205 × 175 px are" in slide.reader.notes[0]
        )


def test_info_says_what_was_corrected_and_nothing_of_the_patient(folder: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(folder), "--json"])
    assert len(json.loads(result.stdout)["notes"]) == 2
    assert "SECRET" not in result.output


def test_a_level_that_begins_elsewhere_lies_there(tmp_path: Path) -> None:
    """Level 1 begins 40 columns and 16 rows before level 0."""
    fine = MARKED.levels()[0]
    wide = np.pad(fine, ((16, 40), (40, 24), (0, 0)), constant_values=245)[::2, ::2]
    series = generate_uid()
    write_dicom(tmp_path / "0.dcm", fine, series, (MM, MM), corner=(20.0, 40.0))
    corner = (20.0 + 16 * MM, 40.0 + 40 * MM)
    write_dicom(tmp_path / "1.dcm", wide, series, (2 * MM, 2 * MM), corner=corner)
    with open_slide(tmp_path) as slide:
        level = slide.levels[1]
        assert (level.factors, level.origin) == ((2, 2), (0, 0))
        assert (level.width, level.height) == (205, 175)
        np.testing.assert_allclose(
            middle(slide.read_region(100, 60, 155, 145, level=1)), MARKED.middle / 2 - [50, 30]
        )
        assert "starts -40, -16 px from level 0" in slide.reader.notes[0]


@pytest.mark.parametrize(
    ("spacing", "orientation", "reason"),
    [
        (
            None,
            [0, -1, 0, -1, 0, 0],
            "states no pixel spacing, and its size makes it 1.602 × 1.823",
        ),
        ((3 * MM, 5 * MM), TURNED, "pixel spacing makes it 3 × 5 times"),
        ((MM, MM), TURNED, "pixel spacing makes it 1 × 1 times as coarse, and its size"),
        ((2 * MM, 2 * MM), [0, 1, 0, 1, 0, 0], "rotated against level 0"),
    ],
)
def test_a_level_whose_place_cannot_be_told_is_left_out_and_named(
    tmp_path: Path,
    spacing: tuple[float, float] | None,
    orientation: list[int],
    reason: str,
) -> None:
    series, levels = generate_uid(), MARKED.levels()
    write_dicom(tmp_path / "0.dcm", levels[0], series, (MM, MM))
    half = padded(levels[1])
    write_dicom(tmp_path / "1.dcm", half, series, spacing, orientation=orientation)
    with open_slide(tmp_path) as slide:
        assert len(slide.levels) == 1
        (note,) = slide.reader.notes
        assert note.startswith("level 1 (256 × 192 px) is not used: it")
        assert reason in note
        thumbnail, downsample = slide.thumbnail(205)
        np.testing.assert_allclose(middle(thumbnail) * downsample, MARKED.middle, atol=1)


def test_a_level_filled_up_by_one_pixel_keeps_its_whole_factor(tmp_path: Path) -> None:
    series, levels = generate_uid(), MARKED.levels()
    write_dicom(tmp_path / "0.dcm", levels[0], series, (MM, MM))
    more = np.pad(levels[1], ((0, 1), (0, 1), (0, 0)))
    write_dicom(tmp_path / "1.dcm", more, series, (2 * MM, 2 * MM))
    with open_slide(tmp_path) as slide:
        assert (slide.levels[1].factors, slide.levels[1].width) == ((2, 2), 205)
        assert slide.reader.notes == ()


def test_levels_without_spacing_lie_by_their_size(tmp_path: Path) -> None:
    series = generate_uid()
    for number, pixels in enumerate(MARKED.levels()):
        write_dicom(tmp_path / f"{number}.dcm", pixels, series, None)
    with open_slide(tmp_path) as slide:
        assert [level.factors for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]
        assert slide.reader.notes == ()
        assert not slide.resolution.known


def test_the_imaged_volume_stands_for_a_spacing_that_is_missing(tmp_path: Path) -> None:
    series, levels = generate_uid(), MARKED.levels()
    write_dicom(tmp_path / "0.dcm", levels[0], series, None, volume=(410 * MM, 350 * MM))
    half = padded(levels[1])
    write_dicom(tmp_path / "1.dcm", half, series, None, volume=(512 * MM, 384 * MM))
    with open_slide(tmp_path) as slide:
        assert slide.levels[1].factors == (2, 2)


def test_one_spacing_for_all_levels_is_corrected_by_their_size(tmp_path: Path) -> None:
    series = generate_uid()
    for number, pixels in enumerate(MARKED.levels()):
        write_dicom(tmp_path / f"{number}.dcm", pixels, series, (MM, MM))
    with open_slide(tmp_path) as slide:
        assert [level.factors for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]
        assert "its size 2 times; the size is used" in slide.reader.notes[0]


def test_nothing_of_a_patient_is_logged_or_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_slide(folder) as slide:
            said = " ".join((*slide.reader.notes, slide.resolution.note))
        (folder / "1.dcm").write_bytes((folder / "1.dcm").read_bytes()[:900])
        (folder / "2.dcm").unlink()
        with pytest.raises(SlideError) as refusal, open_slide(folder / "1.dcm"):
            pass
    texts = [said, str(refusal.value), caplog.text, *(str(one.message) for one in caught)]
    assert not any(PATIENT.split("^")[1] in text for text in texts)
