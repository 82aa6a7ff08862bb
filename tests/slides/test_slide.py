"""A slide opens lazily and gives the right pixels in one frame."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
import tifffile
import tiffslide

from napari_wsimil.slides.geometry import MppSource, SlideError
from napari_wsimil.slides.lazy_array import TooLargeError
from napari_wsimil.slides.slide import open_slide

if TYPE_CHECKING:
    from pathlib import Path


def cell(x: int, y: int) -> tuple[int, int]:
    """Return what red and green of `coded_slide` must be at a level-0 place."""
    return x // 8, y // 8


def test_real_slide_has_the_pixels_of_two_other_libraries(small_slide: Path) -> None:
    with open_slide(small_slide) as slide, tiffslide.TiffSlide(small_slide) as other:
        ours = slide.read_region(50, 100, 850, 1200)
        np.testing.assert_array_equal(
            ours, other.read_region((50, 100), 0, (850, 1200), as_array=True)
        )
    with openslide.OpenSlide(small_slide) as third:
        theirs = third.read_region((50, 100), 0, (850, 1200)).convert("RGB")
    np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_real_slide_states_its_facts(small_slide: Path) -> None:
    with open_slide(small_slide) as slide:
        assert slide.dimensions == (2220, 2967)
        assert slide.resolution.mpp == pytest.approx(0.499)
        assert slide.resolution.source is MppSource.HEADER
        assert slide.name == "CMU-1-Small-Region"
        assert not slide.synthetic


def test_dicom_twin_has_the_same_geometry_and_nearly_the_same_pixels(data: Path) -> None:
    """The twin was compressed a second time with subsampled color: some 4 of 255 apart."""
    with (
        open_slide(data / "slides" / "CMU-1-Small-Region.svs") as svs,
        open_slide(data / "slides" / "CMU-1-Small-Region_dicom") as dicom,
    ):
        assert dicom.dimensions == svs.dimensions
        assert dicom.resolution.mpp == svs.resolution.mpp
        one, two = (s.read_region(960, 1400, 480, 900).astype(int) for s in (svs, dicom))
        shifted = svs.read_region(961, 1400, 480, 900).astype(int)
    assert abs(one - two).mean() < 8
    assert abs(shifted - two).mean() > 1.5 * abs(one - two).mean()


@pytest.mark.parametrize(("name", "step"), [("sm_image_numbers.dcm", 10), ("boxes.tiff", 64)])
def test_tiles_lie_in_the_order_of_openslide(data: Path, name: str, step: int) -> None:
    path = data / "slides" / name
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        width, height = slide.dimensions
        theirs = np.asarray(other.read_region((0, 0), 0, (width, height)).convert("RGB"))
        np.testing.assert_array_equal(slide.read_region(0, 0, width, height), theirs)
        ours = slide.read_region(step, step, step, step)
        np.testing.assert_array_equal(ours, theirs[step : 2 * step, step : 2 * step])


def test_downsamples_are_real_numbers(coded_slide: Path) -> None:
    """A quarter would be 250 × 175 px, not 249 × 174."""
    with open_slide(coded_slide) as slide:
        assert slide.levels[1].factors == (1000 / 249, 1000 / 249)


def test_a_region_is_placed_by_the_true_downsample(coded_slide: Path) -> None:
    """At 4.016 place (960, 640) is pixel (239, 159); a downsample of 4 gives (240, 160)."""
    with open_slide(coded_slide) as slide:
        corner = slide.read_region(960, 640, 1, 1, level=1)[0, 0]
    assert tuple(corner[:2]) == cell(2 + 4 * 239, 2 + 4 * 159)


def test_outside_of_a_slide_is_white(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        region = slide.read_region(990, -4, 20, 8)
    assert (region[:4] == 255).all()
    assert (region[4:, 10:] == 255).all()
    assert tuple(region[4, 0, :2]) == cell(990, 0)


def test_virtual_levels_halve_and_lie_in_place(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        steps = slide.pyramid_tiles.steps
        assert [step.stored for step in steps] == [0, None, 1]
        assert steps[1].level.downsample == 2.0
        half, fine = np.asarray(slide.arrays[1][:]), np.asarray(slide.arrays[0][:])
    assert half.shape == (350, 500, 3)
    np.testing.assert_array_equal(half, fine[::2, ::2])  # cells are 8 px, so blocks are flat


def test_a_slide_without_a_pyramid_gets_one(small_slide: Path) -> None:
    with open_slide(small_slide) as slide:
        shapes = [array.shape[:2] for array in slide.arrays]
        assert shapes == [(2967, 2220), (1484, 1110), (742, 555)]
        fine = np.asarray(slide.arrays[0][:512, :512]).astype(float)
        half = np.asarray(slide.arrays[1][:256, :256])
    means = fine.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(means - half).max() <= 1


@pytest.mark.parametrize(
    "key",
    [
        np.s_[10:200, 300:555],
        np.s_[5, 7],
        np.s_[..., 0],
        np.s_[-50:, -60:, :2],
        np.s_[::7, 3:90:5],
        np.s_[100:100, 5:9],
    ],
)
def test_slices_equal_those_of_the_whole_level(coded_slide: Path, key: object) -> None:
    with open_slide(coded_slide) as slide:
        whole = slide.read_region(0, 0, 1000, 700)
        np.testing.assert_array_equal(np.asarray(slide.arrays[0][key]), whole[key])  # type: ignore[index]


def test_a_slice_builds_a_graph_over_its_own_tiles_only(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        part = slide.arrays[0][64:192, 64:128]
        assert len(dict(part.__dask_graph__())) <= 4
        part.compute()
        assert slide.cache.used == 2 * 64 * 64 * 3


def test_a_fine_level_is_never_pulled_whole_into_memory(wide_slide: Path) -> None:
    with open_slide(wide_slide) as slide:
        with pytest.raises(TooLargeError, match="zoom in"):
            np.asarray(slide.arrays[0])
        with pytest.raises(TooLargeError, match="coarser"):
            slide.arrays[0][:]
        with pytest.raises(TooLargeError):
            slide.arrays[0].astype(int)
        assert np.asarray(slide.arrays[0][:300, :300]).min() == 255


def test_patches_are_area_means_of_their_square(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        patch = slide.read_patch(104, 208, 64, 8)
        for row in range(8):
            for column in range(8):
                assert tuple(patch[row, column, :2]) == cell(104 + 8 * column, 208 + 8 * row)
        np.testing.assert_array_equal(
            slide.read_patch(33, 17, 50, 50), slide.read_region(33, 17, 50, 50)
        )


def test_thumbnail_states_its_real_downsample(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        pixels, downsample = slide.thumbnail(128)
    assert max(pixels.shape) == 128
    assert downsample == pytest.approx(1000 / 128)


def test_the_cache_stays_within_its_budget_from_many_threads(small_slide: Path) -> None:
    budget = 2_000_000
    with open_slide(small_slide, cache_bytes=budget) as slide:
        seen: list[int] = []

        def browse(shift: int) -> None:
            for x in range(shift, 2000, 240):
                slide.read_region(x, x, 500, 300)
                seen.append(slide.cache.used)

        threads = [threading.Thread(target=browse, args=(20 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0 < max(seen) <= budget


@pytest.mark.parametrize(
    ("size", "unit", "source", "mpp"),
    [
        (0.25, "µm", MppSource.OME, 0.25),
        (250.0, "nm", MppSource.OME, 0.25),
        (0.25, "mm", MppSource.UNKNOWN, None),
        (0.25, "parsec", MppSource.UNKNOWN, None),
    ],
)
def test_ome_sizes_are_read_in_their_unit(
    tmp_path: Path, size: float, unit: str, source: MppSource, mpp: float | None
) -> None:
    path = tmp_path / "slide.ome.tif"
    names = {f"PhysicalSize{axis}": size for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    pixels = np.full((64, 64, 3), 200, np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata={"axes": "YXS", **names, **units})
    text = tifffile.tiffcomment(path).replace('SizeXUnit="µm"', f'SizeXUnit="{unit}"')
    tifffile.tiffcomment(path, text.replace('SizeYUnit="µm"', f'SizeYUnit="{unit}"').encode())
    with open_slide(path) as slide:
        assert slide.resolution.source is source
        assert slide.resolution.mpp == mpp


def test_an_implausible_size_is_unknown_and_the_reason_told(data: Path) -> None:
    with open_slide(data / "slides" / "boxes.tiff") as slide:
        assert slide.resolution.mpp is None
        assert "352" in slide.resolution.note


def test_resolution_tags_count_as_derived(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(
        path,
        np.zeros((64, 64, 3), np.uint8),
        photometric="rgb",
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    with open_slide(path) as slide:
        assert slide.resolution.mpp == pytest.approx(0.5)
        assert slide.resolution.source is MppSource.DERIVED


def test_the_users_word_overrides_the_file(coded_slide: Path) -> None:
    with open_slide(coded_slide, mpp=0.3) as slide:
        assert (slide.resolution.mpp, slide.resolution.source) == (0.3, MppSource.USER)
    with pytest.raises(ValueError, match=r"0\.05.*got 55"):
        open_slide(coded_slide, mpp=55)


def test_fingerprints_tell_slides_apart(small_slide: Path, coded_slide: Path) -> None:
    with (
        open_slide(small_slide) as one,
        open_slide(coded_slide) as two,
        open_slide(small_slide) as same,
    ):
        assert one.fingerprint == same.fingerprint != two.fingerprint


def test_every_malformed_file_is_refused_by_name(data: Path) -> None:
    for path in sorted((data / "malformed").iterdir()):
        with pytest.raises(SlideError) as refusal, open_slide(path) as slide:  # noqa: PT012
            slide.thumbnail()
            slide.read_region(0, 0, 32, 32)
        assert path.name in str(refusal.value)
        assert "\n" not in str(refusal.value)
        for slip in ("operand type", "instances of", "out of range"):  # on code, not the file
            assert slip not in str(refusal.value)


def test_a_truncated_slide_is_refused(small_slide: Path, tmp_path: Path) -> None:
    whole = small_slide.read_bytes()
    for share in (0.01, 0.2, 0.6):
        path = tmp_path / "cut.svs"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SlideError, match=r"cut\.svs"), open_slide(path) as slide:
            slide.thumbnail()


def test_what_is_no_slide_is_refused(data: Path, tmp_path: Path) -> None:
    for path in (
        data / "slides" / "2048x2048_ome6_tiled.ome.tif",
        data / "README.md",
        tmp_path,
        tmp_path / "absent.svs",
    ):
        with pytest.raises(SlideError, match=path.name.replace(".", r"\.")):
            open_slide(path)


def test_a_closed_slide_does_not_read(coded_slide: Path) -> None:
    with open_slide(coded_slide) as slide:
        pass
    with pytest.raises(SlideError):
        slide.read_region(0, 0, 10, 10)


def test_a_closed_slide_never_shows_the_pixels_of_the_next(
    coded_slide: Path, small_slide: Path
) -> None:
    first = open_slide(coded_slide)
    array = first.arrays[0]
    first.close()
    with open_slide(small_slide) as second:
        with pytest.raises(SlideError, match="closed"):
            np.asarray(array[:64, :64])
        first.close()
        assert second.read_region(0, 0, 8, 8).shape == (8, 8, 3)


def test_two_slides_never_share_the_name_of_a_task(coded_slide: Path) -> None:
    names = set()
    for _ in range(3):
        with open_slide(coded_slide) as slide:
            names.add(slide.arrays[0][:64, :64].name)
    assert len(names) == 3


def test_associated_images_come_only_when_asked(small_slide: Path) -> None:
    with open_slide(small_slide) as slide:
        assert set(slide.reader.associated) == {"label", "macro", "thumbnail"}
        assert slide.associated("macro").ndim == 3
        with pytest.raises(ValueError, match="it has: .*label"):
            slide.associated("passport")


def test_opening_a_slide_imports_neither_torch_nor_qt(small_slide: Path) -> None:
    code = (
        "import sys; from napari_wsimil.slides.slide import open_slide;"
        "from napari_wsimil import _reader;"
        f"open_slide({str(small_slide)!r}).read_region(0, 0, 9, 9);"
        f"_reader.read_slides({str(small_slide)!r});"
        "print({'torch', 'napari', 'qtpy', 'PyQt5', 'PyQt6'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_slide_cut_off_while_open_is_told_by_name(small_slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "vanishing.svs"
    path.write_bytes(small_slide.read_bytes())
    with open_slide(path) as slide:
        slide.read_region(0, 0, 100, 100)
        with path.open("r+b") as file:
            file.truncate(5000)
        with pytest.raises(SlideError, match=r"vanishing\.svs: level 0, tile .* is incomplete"):
            slide.read_region(1000, 1500, 100, 100)
