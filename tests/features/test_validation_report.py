"""A passport says where patches are said to lie, and which check they fail on their slide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import foreign
import h5py
import numpy as np
import pytest
import tifffile

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import open_bag, read_stated
from napari_wsimil.features.report import Passport, passport
from napari_wsimil.features.store import save_bag
from napari_wsimil.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The only part of the slide that is stained: x and y from 512, as `foreign.CORNERS`.
SIZE = (4096, 3072)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    pixels = np.full((SIZE[1], SIZE[0], 3), 245, np.uint8)
    pixels[512:2048, 512:2560] = (200, 90, 160)
    path = tmp_path_factory.mktemp("slide") / "a.svs"
    header = f"Aperio Image Library v1\r\n{SIZE[0]}x{SIZE[1]}|AppMag = 40|MPP = 0.25"
    how = {"compression": "zlib", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, tile=(256, 256), description=header, **how)
        tiff.write(pixels[::16, ::16], **how)  # the thumbnail's place
        tiff.write(pixels[::4, ::4], tile=(256, 256), description=header, **how)
    with open_slide(path) as opened:
        yield opened


def verdicts(found: Passport) -> dict[str, str]:
    return {check.name: check.verdict.value for check in found.checks}


def sentence(found: Passport, name: str) -> str:
    return next(check.sentence for check in found.checks if check.name == name)


def read(path: Path, slide: Slide | None = None, **confirmed: Any) -> Passport:
    given = Confirmed(**confirmed)
    return passport(read_stated(path, given), given, slide)


def test_a_file_that_fits_passes_all_checks(tmp_path: Path, slide: Slide) -> None:
    found = read(foreign.trident(tmp_path / "a.h5"), slide)
    names = ("edges", "stride", "tissue", "number", "places", "values", "reading")
    assert verdicts(found) == dict.fromkeys(names, "passed")
    assert found.verdict is Verdict.PASSED
    assert (found.origin, found.patch_size, found.patch_um) == ((512, 512), 512, 128)
    assert (found.mpp, found.mpp_source) == (0.25, "the slide (header)")
    assert (found.encoder, found.encoder_source) == ("uni_v1", "named by the file, unverified")
    assert found.facts["checks"]["tissue"] == "passed: 100% of patches are on tissue"  # type: ignore[index]


def test_without_a_slide_edges_and_tissue_are_not_tested(tmp_path: Path) -> None:
    found = read(foreign.trident(tmp_path / "a.h5"))
    assert verdicts(found) == {
        "edges": "not tested", "stride": "passed", "tissue": "not tested", "number": "passed",
        "places": "passed", "values": "passed", "reading": "not tested",
    }  # fmt: skip
    assert found.verdict is Verdict.UNTESTED
    sized = read(foreign.trident(tmp_path / "b.h5", level0_width=2000, level0_height=4000))
    assert verdicts(sized)["edges"] == "refused"  # the slide's size that the file states will do


def test_pixels_taken_for_microns_leave_the_slide_and_that_is_said(
    tmp_path: Path, slide: Slide
) -> None:
    path = foreign.stamp2(tmp_path / "a.h5", 1.0)  # places in px, though the file says µm
    found = read(path, slide)
    assert found.verdict is Verdict.REFUSED
    assert verdicts(found)["edges"] == "refused"
    assert "they fit if read as pixels instead of µm" in sentence(found, "edges")


def test_microns_taken_for_pixels_miss_the_tissue_and_that_is_said(
    tmp_path: Path, slide: Slide
) -> None:
    path = foreign.trident(tmp_path / "a.h5", corners=foreign.CORNERS // 4, patch_size_level0=128)
    found = read(path, slide)
    assert verdicts(found)["tissue"] == "refused"
    assert "read as µm: 100%" in sentence(found, "tissue")


def test_an_offset_of_the_bounds_is_found(tmp_path: Path, slide: Slide) -> None:
    stated = read_stated(foreign.trident(tmp_path / "a.h5"))
    assert stated.corners is not None
    beyond = replace(
        stated, bounds=(2048, 1536, 2048, 1536), corners=stated.corners + np.array((2048, 1536))
    )
    found = passport(beyond, slide=slide)
    assert "they fit if read with the bounds offset subtracted" in sentence(found, "edges")
    before = replace(stated, bounds=(512, 512, 2048, 1536), corners=stated.corners - 512)
    found = passport(before, slide=slide)
    assert verdicts(found)["tissue"] == "warned"  # half would lie on tissue by chance
    assert "read with the bounds offset added: 100%" in sentence(found, "tissue")
    assert found.bounds == (512, 512, 2048, 1536)


def test_patches_half_over_glass_are_warned_of(tmp_path: Path, slide: Slide) -> None:
    found = read(
        foreign.trident(tmp_path / "a.h5", corners=foreign.CORNERS + np.array((1024, 512))), slide
    )
    assert verdicts(found)["tissue"] == "warned"  # a third lies on tissue
    assert found.checks[2].value == pytest.approx(4 / 12)
    (question,) = [question for question in found.questions if question.needed]
    assert question.fact == "reading"
    assert "as stated 0.20" in question.text
    assert found.verdict is Verdict.REFUSED
    path = tmp_path / "a.h5"
    assert read(path, slide, reading="stated").verdict is Verdict.WARNED


def test_steps_that_contradict_the_file_are_refused_and_a_persons_are_warned_of(
    tmp_path: Path, slide: Slide
) -> None:
    found = read(foreign.trident(tmp_path / "a.h5", overlap=64), slide)
    assert verdicts(found)["stride"] == "refused"
    assert "512 level-0 px apart, but extent minus overlap is 384" in sentence(found, "stride")
    path = foreign.clam(tmp_path, "a")
    assert verdicts(read(path, slide, patch_size=256))["stride"] == "warned"
    assert verdicts(read(path, slide, patch_size=512))["stride"] == "passed"


def test_a_file_of_a_slide_of_another_size_is_refused(tmp_path: Path, slide: Slide) -> None:
    path = foreign.trident(tmp_path / "a.h5", level0_width=4096, level0_height=9999)
    found = read(path, slide)
    assert "the file is of a slide of 4096 × 9999" in sentence(found, "edges")
    assert found.verdict is Verdict.REFUSED


def test_fewer_places_than_features_are_refused(tmp_path: Path) -> None:
    found = read(foreign.trident(tmp_path / "a.h5", corners=foreign.CORNERS[:-1]))
    assert sentence(found, "number").startswith("12 features for 11 coordinates")
    assert found.verdict is Verdict.REFUSED


def test_what_a_file_cannot_say_is_asked_for_by_name(tmp_path: Path, slide: Slide) -> None:
    path = foreign.clam(tmp_path, "a")
    found = read(path, slide)
    assert [question.fact for question in found.questions] == ["patch_size", "encoder"]
    assert [question.needed for question in found.questions] == [True, False]
    assert found.verdict is Verdict.REFUSED
    answered = read(path, slide, patch_size=512, encoder="uni")
    assert answered.questions == ()
    assert (answered.encoder, answered.encoder_source) == (
        "uni",
        "declared by the user, unverified",
    )
    assert answered.verdict is Verdict.PASSED
    microns = read(foreign.stamp2(tmp_path / "s.h5", 0.25))
    assert [question.fact for question in microns.questions] == ["mpp"]


def test_what_a_person_says_of_a_pixel_goes_before_the_slide(tmp_path: Path, slide: Slide) -> None:
    found = read(foreign.stamp2(tmp_path / "a.h5", 0.5), slide, mpp=0.5)
    assert (found.mpp_source, found.verdict) == ("confirmed by the user", Verdict.PASSED)
    file = read(foreign.lazyslide(tmp_path / "a.zarr"))
    assert (file.mpp, file.mpp_source) == (0.5, "LazySlide's file")
    differs = read(tmp_path / "a.zarr", slide)
    assert differs.notes == ("the file states 0.5 µm per level-0 px, the slide 0.25",)


def test_only_our_own_files_vouch_for_their_encoder(tmp_path: Path) -> None:
    bag = open_bag(foreign.trident(tmp_path / "a.h5"))
    save_bag(tmp_path / "own.h5", replace(bag, encoder="stain-texture@0123456789abcdef"))
    assert read(tmp_path / "own.h5").encoder_source.startswith("named with a hash")


def test_rounding_of_places_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = np.array([[0, 0], [100, 0]], np.float32)
        file["feats"] = np.zeros((2, 3), np.float16)
        file.attrs.update(unit="um", tile_size_um=100.0)
    found = read(tmp_path / "a.h5", mpp=0.3)
    assert found.notes == ("coordinates are rounded to whole level-0 px, by at most 0.33 px",)


def test_the_real_zarr_fits_its_real_slide(data: Path, small_slide: Path) -> None:
    path = data / "slides" / "CMU-1-Small-Region_wsidata" / "CMU-1-Small-Region.zarr"
    with open_slide(small_slide) as opened:
        found = read(path, opened)
    assert found.verdict is Verdict.PASSED
    assert found.patch_um == pytest.approx(256 * 0.499)
