"""Places and values that are plausible but wrong are asked about, refused, or warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import tifffile

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import open_bag, open_confirmed, read_stated
from napari_wsimil.features.report import Passport, passport
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import make_grid
from napari_wsimil.slides.slide import Slide, open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.workflows.load_features import features_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 224
#: By reading, the coordinates that a file gives in place of the corner, less the corner.
SHIFTS = {
    "centers": (112, 112),
    "left": (SIDE, 0),
    "right": (-SIDE, 0),
    "up": (0, SIDE),
    "down": (0, -SIDE),
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """A slide with an oval of tissue in the middle: what is shifted still lies on it."""
    y, x = np.mgrid[:4000, :5000]
    pixels = np.full((4000, 5000, 3), 245, np.uint8)
    oval = ((x - 2500) / 1900) ** 2 + ((y - 2000) / 1300) ** 2 < 1 + 0.1 * np.sin(x / 300)
    pixels[oval] = (200, 90, 160)
    path = tmp_path_factory.mktemp("slide") / "a.svs"
    header = "Aperio Image Library v1\r\n5000x4000|AppMag = 20|MPP = 0.5"
    how = {"compression": "zlib", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, tile=(256, 256), description=header, **how)
        tiff.write(pixels[::16, ::16], **how)  # the thumbnail's place
        tiff.write(pixels[::4, ::4], tile=(256, 256), description=header, **how)
    with open_slide(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def corners(slide: Slide) -> NDArray[np.int64]:
    return make_grid(slide, find_tissue(slide), 0.5, SIDE).coords


def write(path: Path, corners: NDArray[Any], values: NDArray[Any] | None = None) -> Path:
    """Write features of 224-px patches as TRIDENT does."""
    if values is None:
        values = np.random.default_rng(0).normal(size=(len(corners), 16))
    with h5py.File(path, "w") as file:
        file["features"] = values.astype(np.float32)
        file["coords"] = corners.astype(np.int64)
        file["coords"].attrs.update(patch_size=SIDE, patch_size_level0=SIDE, overlap=0)
        file["features"].attrs["encoder"] = "uni"
    return path


def read(path: Path, slide: Slide | None, reading: str = "") -> Passport:
    given = Confirmed(reading=reading)
    return passport(read_stated(path, given), given, slide)


def check(found: Passport, name: str) -> tuple[str, str]:
    return next((c.verdict.value, c.sentence) for c in found.checks if c.name == name)


def asked(found: Passport) -> str:
    return " ".join(question.text for question in found.questions if question.needed)


def test_places_as_they_are_raise_no_doubt(
    tmp_path: Path, slide: Slide, corners: NDArray[np.int64]
) -> None:
    found = read(write(tmp_path / "a.h5", corners), slide)
    assert found.verdict is Verdict.PASSED
    assert asked(found) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("centers", "as centers of patches"),
        ("left", "one patch to the left"),
        ("right", "one patch to the right"),
        ("up", "one patch up"),
        ("down", "one patch down"),
    ],
)
def test_places_that_mean_something_else_are_asked_about_and_set_right(
    tmp_path: Path, slide: Slide, corners: NDArray[np.int64], answer: str, said: str
) -> None:
    path = write(tmp_path / "a.h5", corners + np.array(SHIFTS[answer]))
    found = read(path, slide)
    assert found.verdict is Verdict.REFUSED
    assert check(found, "edges")[0] == "passed"
    assert check(found, "reading")[0] == "warned"
    assert asked(found).startswith("how should the coordinates be read (stated, exchanged,")
    assert said in asked(found)
    assert read(path, slide, answer).verdict is Verdict.PASSED
    grid = open_confirmed(path, Confirmed.parse(f"reading={answer}")).grid
    assert grid is not None
    assert np.array_equal(grid.coords, corners)
    assert check(read(path, slide, "stated"), "reading")[0] == "passed"


def test_exchanged_places_are_asked_about_with_the_scores(
    tmp_path: Path, slide: Slide, corners: NDArray[np.int64]
) -> None:
    path = write(tmp_path / "a.h5", corners[:, ::-1])
    found = read(path, slide)
    assert found.verdict is Verdict.REFUSED
    assert "with x and y exchanged" in asked(found)
    grid = open_confirmed(path, Confirmed(reading="exchanged")).grid
    assert grid is not None
    assert np.array_equal(grid.coords, corners)


def test_places_beyond_the_edge_name_the_reading_that_fits(
    tmp_path: Path, small_slide: Path
) -> None:
    y, x = np.mgrid[0:2912:SIDE, 0:2016:SIDE]
    lattice = np.stack([x.ravel(), y.ravel()], axis=1)
    with open_slide(small_slide) as slide:
        assert read(write(tmp_path / "fine.h5", lattice), slide).verdict is Verdict.PASSED
        found = read(write(tmp_path / "centers.h5", lattice + 112), slide)
        assert "57 px beyond the slide" in asked(found)
        assert "they fit if read as centers of patches" in asked(found)
        assert read(tmp_path / "centers.h5", slide, "centers").verdict is Verdict.PASSED
        found = read(write(tmp_path / "exchanged.h5", lattice[:, ::-1]), slide)
        assert "with x and y exchanged 0." in asked(found)


def test_a_reading_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="reading=sideways"):
        Confirmed.parse("reading=sideways")


def test_patches_with_one_place_are_refused(
    tmp_path: Path, slide: Slide, corners: NDArray[np.int64]
) -> None:
    twice = np.concatenate([corners[:-20], corners[:20]])
    found = read(write(tmp_path / "a.h5", twice), slide)
    assert found.verdict is Verdict.REFUSED
    text = (
        f"20 of {len(corners)} patches repeat the coordinates of another: were files joined twice?"
    )
    assert check(found, "places") == ("refused", text)


@pytest.mark.parametrize(
    ("kind", "verdict", "said"),
    [
        ("zero", "refused", "40 of 40 patches have features that are all 0"),
        ("constant", "refused", "39 of 40 patches have the features of another patch"),
        ("repeated", "refused", "10 of 40 patches have the features of another patch"),
        ("few repeated", "warned", "2 of 40 patches have the features of another patch"),
        ("few zero", "warned", "1 of 40 patches have features that are all 0"),
        ("saturated", "warned", "of the values equal the largest one: clipped?"),
        ("infinite", "refused", "have NaN or infinite features"),
        ("fine", "passed", "features are finite and differ between patches"),
    ],
)
def test_values_that_cannot_be_right_are_refused_or_warned_of(
    tmp_path: Path, kind: str, verdict: str, said: str
) -> None:
    values = np.random.default_rng(1).normal(size=(40, 8))
    if kind in ("zero", "constant"):
        values[:] = 0 if kind == "zero" else values[0]
    elif kind in ("repeated", "few repeated"):
        count = 10 if kind == "repeated" else 2
        values[:count] = values[20 : 20 + count]
    elif kind == "saturated":
        values = values.clip(-1, 1)
    elif kind != "fine":
        values[3] = 0 if kind == "few zero" else np.inf
    path = write(tmp_path / "a.h5", SIDE * np.stack([np.arange(40)] * 2, axis=1), values)
    found = check(read(path, None), "values")
    assert found[0] == verdict
    assert said in found[1]


def test_the_window_refuses_features_that_are_all_zero(
    tmp_path: Path, slide: Slide, corners: NDArray[np.int64]
) -> None:
    path = write(tmp_path / "a.h5", corners, np.zeros((len(corners), 4)))
    assert len(open_bag(path)) == len(corners)
    with pytest.raises(ValueError, match=r"a\.h5: values check: .* all 0"):
        finish(features_job(path, slide))
