"""Phantoms: what is drawn is what is told, in files that other readers open."""

from __future__ import annotations

import csv
import gc
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
import shapely
import tiffslide

from napari_wsimil.slides.geometry import Region
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.synthetic import (
    VARIABLES,
    CohortRecipe,
    Phantom,
    SlideRecipe,
    Truth,
    leaning,
    load_recipe,
    load_truth,
    patch_truth,
    write_cohort,
    write_phantom,
)
from napari_wsimil.synthetic.cohort import write_patients, write_slides
from napari_wsimil.synthetic.layout import lay_out
from napari_wsimil.synthetic.painter import Painter
from napari_wsimil.synthetic.tiff_writer import level_sizes

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray
    from shapely.geometry import MultiPolygon

    from napari_wsimil.progress import Result, Work

RECIPE = SlideRecipe(
    width=2100, height=1500, seed=5, pieces=1, lesions={"A": 0.12, "B": 0.1, "C": 0.1}
)
DEMO = Path(__file__).parents[2] / "resources" / "demo_recipe.toml"


def result_of(work: Work[Result]) -> tuple[list[float], Result]:
    """Return the shares done of all progress of a generator, and its result."""
    progress: list[float] = []
    while True:
        try:
            progress.append(next(work).share)
        except StopIteration as stop:
            return progress, stop.value


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return result_of(write_phantom(tmp_path_factory.mktemp("phantom") / "slide.tiff", RECIPE))[1]


@pytest.fixture(scope="module")
def pixels(phantom: Phantom) -> NDArray[np.uint8]:
    with tiffslide.TiffSlide(phantom.path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions, as_array=True))


def grid_over(recipe: SlideRecipe, size: int, stride: int) -> PatchGrid:
    ys, xs = np.mgrid[0 : recipe.height - size + 1 : stride, 0 : recipe.width - size + 1 : stride]
    coords = np.stack([xs.ravel(), ys.ravel()], 1).astype(np.int64)
    return PatchGrid(coords, size, stride, 224)


def inside(area: MultiPolygon, step: int = 2) -> NDArray[np.bool_]:
    """Return whether every `step`-th pixel of the slide of `RECIPE` lies in an area."""
    ys, xs = np.mgrid[0 : RECIPE.height : step, 0 : RECIPE.width : step] + step / 2
    shapely.prepare(area)
    return np.asarray(shapely.contains_xy(area, xs, ys))


def test_both_libraries_read_the_same_pyramid(phantom: Phantom) -> None:
    with openslide.OpenSlide(phantom.path) as one, tiffslide.TiffSlide(phantom.path) as other:
        sizes = tuple(level_sizes(2100, 1500, 2))
        assert sizes == ((2100, 1500), (1050, 750), (525, 375))
        assert one.level_dimensions == other.level_dimensions == sizes
        assert float(one.properties["openslide.mpp-x"]) == RECIPE.mpp
        assert float(other.properties["tiffslide.mpp-y"]) == RECIPE.mpp
        assert one.properties["openslide.objective-power"] == "20"
        assert "synthetic" in one.properties["openslide.comment"].lower()
        for level, (width, height) in enumerate(sizes):
            size = (width // 2, height // 2)
            first = np.asarray(one.read_region((420, 300), level, size).convert("RGB"))
            second = other.read_region((420, 300), level, size, as_array=True)
            np.testing.assert_array_equal(first, second)


def test_each_level_shows_the_same_picture_in_the_same_place(phantom: Phantom) -> None:
    with tiffslide.TiffSlide(phantom.path) as slide:
        fine = slide.read_region((0, 0), 0, (2048, 1024), as_array=True).astype(float)
        for level, step in ((1, 2), (2, 4)):
            size = (2048 // step, 1024 // step)
            coarse = slide.read_region((0, 0), level, size, as_array=True).astype(float)
            mean = fine.reshape(size[1], step, size[0], step, 3).mean((1, 3))
            assert np.abs(coarse - mean).mean() < 4


def test_steps_of_four_make_levels_a_quarter_as_wide(tmp_path: Path) -> None:
    recipe = replace(RECIPE, step=4, tile=128, lesions={})
    _, made = result_of(write_phantom(tmp_path / "four.svs", recipe))
    with openslide.OpenSlide(made.path) as slide:
        assert slide.level_dimensions == ((2100, 1500), (525, 375))
        assert slide.properties["openslide.level[0].tile-width"] == "128"
    assert made.truth.lesions == {}


def test_progress_rises_to_one_and_leaves_no_scratch(tmp_path: Path) -> None:
    recipe = SlideRecipe(width=600, height=600)
    progress, made = result_of(write_phantom(tmp_path / "a.tiff", recipe))
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1)
    assert {p.name for p in tmp_path.iterdir()} == {made.path.name, "a.truth.geojson"}


def test_a_slide_given_up_midway_leaves_nothing(tmp_path: Path) -> None:
    work = write_phantom(tmp_path / "a.tiff", SlideRecipe(width=600, height=600))
    next(work)
    work.close()
    assert list(tmp_path.iterdir()) == []


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    def written(name: str, seed: int) -> bytes:
        recipe = SlideRecipe(width=700, height=500, seed=seed)
        return result_of(write_phantom(tmp_path / name, recipe))[1].path.read_bytes()

    assert written("a.tiff", 1) == written("b.tiff", 1) != written("c.tiff", 2)


def test_a_block_looks_the_same_however_the_slide_is_cut() -> None:
    painter = Painter(RECIPE, lay_out(RECIPE))
    whole = painter.block(Region(640, 512, 400, 300))
    part = painter.block(Region(777, 600, 100, 150))
    assert whole is not None
    np.testing.assert_array_equal(part, whole[88:238, 137:237])


def test_it_is_tissue_on_glass_in_the_colors_of_the_stains(pixels: NDArray[np.uint8]) -> None:
    red, green, blue = (pixels[..., i].astype(int) for i in range(3))
    glass = pixels.min(2) > 232
    assert 0.2 < glass.mean() < 0.8
    border = np.concatenate([glass[0], glass[-1], glass[:, 0], glass[:, -1]])
    assert border.mean() > 0.9
    nuclei = (blue > red + 15) & (red < 110)
    stroma = (red > green + 50) & (red > blue + 10) & (red > 180)
    assert 0.02 < nuclei.mean() < 0.4
    assert stroma.mean() > 0.1


def test_lesions_are_drawn_where_the_truth_says(
    phantom: Phantom, pixels: NDArray[np.uint8]
) -> None:
    pixels = pixels[::2, ::2]
    color = {k: pixels[inside(phantom.truth.area(k).buffer(-20))].mean(0) for k in "ABC"}
    around = phantom.truth.area().buffer(70) - phantom.truth.area().buffer(20)
    benign = pixels[inside(around) & (pixels.min(2) < 225)].mean(0)
    assert color["B"].sum() < color["A"].sum() - 10 < benign.sum() - 60
    assert color["C"][1] > benign[1] + 10
    assert color["C"][2] - color["C"][0] > benign[2] - benign[0] + 20


def test_the_outline_of_a_lesion_is_exact_to_a_few_pixels(
    phantom: Phantom, pixels: NDArray[np.uint8]
) -> None:
    """Small blue cells begin at the line: dark within 15 px inside, not 15 px outside."""
    dark = (pixels[::2, ::2, 0] < 110).astype(float)
    area, others = phantom.truth.area("B"), phantom.truth.area("A").buffer(15)
    inner = inside(area.buffer(-5) - area.buffer(-20))
    outer = inside(area.buffer(20) - area.buffer(5) - others)
    assert dark[inner].mean() > 2 * dark[outer].mean()


def test_lesions_cover_the_share_of_tissue_asked_for_and_do_not_overlap(phantom: Phantom) -> None:
    layout = lay_out(RECIPE)
    tissue = (layout.tissue > 0).sum() * layout.pitch**2
    for kind, share in RECIPE.lesions.items():
        assert phantom.truth.area(kind).area / tissue == pytest.approx(share, rel=0.15)
    total = sum(phantom.truth.area(kind).area for kind in "ABC")
    assert phantom.truth.area().area == pytest.approx(total, rel=1e-3)


def test_the_truth_lies_beside_the_slide_as_annotations(phantom: Phantom) -> None:
    assert phantom.truth_path == phantom.path.with_name("slide.truth.geojson")
    stored = json.loads(phantom.truth_path.read_text())
    assert stored["type"] == "FeatureCollection"
    for feature in stored["features"]:
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] in "ABC"
    again = load_truth(phantom.truth_path)
    for kind in "ABC":
        difference = again.area(kind).symmetric_difference(phantom.truth.area(kind)).area
        assert difference < 1e-3 * phantom.truth.area(kind).area


@pytest.mark.parametrize("kind", ["A", "C", None])
def test_patch_truth_counts_the_lesion_pixels_of_each_patch(
    phantom: Phantom, kind: str | None
) -> None:
    grid = grid_over(RECIPE, 224, 168)
    mask = inside(phantom.truth.area(kind), step=2)
    slow = [mask[y // 2 : y // 2 + 112, x // 2 : x // 2 + 112].mean() for x, y in grid.coords]
    found = patch_truth(phantom.truth, grid, kind)
    np.testing.assert_allclose(found, slow, atol=5e-3)
    assert found.max() > 0.5


def test_a_slide_without_lesions_has_none_in_any_patch() -> None:
    grid = grid_over(RECIPE, 224, 224)
    assert patch_truth(Truth({}), grid).tolist() == [0.0] * len(grid)
    with pytest.raises(ValueError, match="kind must be one of"):
        patch_truth(Truth({}), grid, "A")


def test_memory_does_not_grow_with_the_height_of_a_slide(tmp_path: Path) -> None:
    def peak(height: int) -> int:
        recipe = SlideRecipe(width=1024, height=height, pieces=1, folds=0, pen_marks=0)
        gc.collect()  # what other tests have left is not ours
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result_of(write_phantom(tmp_path / "tall.tiff", recipe))
        return tracemalloc.get_traced_memory()[1] - before

    result_of(write_phantom(tmp_path / "first.tiff", SlideRecipe(width=256, height=256)))
    tracemalloc.start()
    try:
        short, tall = peak(1024), peak(5120)
    finally:
        tracemalloc.stop()
    assert tall - short < 0.35 * 4096 * 1024 * 3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 10}, "width must be between 64 and 200000, not 10"),
        ({"height": 99.5}, "height must be a whole number, not 99.5"),
        ({"mpp": 0.0}, "mpp must be between"),
        ({"tile": 250}, "tile must be a multiple of 16, not 250"),
        ({"step": 3}, "step must be 2 or 4, not 3"),
        ({"quality": 0}, "quality must be between 1 and 100, not 0"),
        ({"lesions": {"Z": 0.1}}, "lesions must contain only A, B, C, not 'Z'"),
        ({"mpp": "fine"}, "mpp must be between 0.2 and 4, not 'fine'"),
        ({"lesions": 0.3}, "lesions must be a table of names and shares"),
        ({"lesions": {"A": 0.9}}, r"lesions\['A'\] must be between"),
    ],
)
def test_a_recipe_names_the_value_it_does_not_take(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SlideRecipe(**wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"patients": 0}, "patients must be between"),
        ({"task": "regression"}, "task must be one of three-class, binary, not 'regression'"),
        ({"slides": (3, 1)}, "slides must be a lowest and a highest number"),
        ({"slides": 2}, "slides must be a lowest and a highest number, not 2"),
        ({"missing": {"genes": 0.1}}, "missing must contain only interview, blood, not 'genes'"),
        ({"validation": 0.7, "test": 0.7}, r"validation \+ test must be between"),
        ({"prefix": "../"}, "prefix must be letters, not '../'"),
        ({"prefix": ""}, "prefix must be letters, not ''"),
    ],
)
def test_a_cohort_names_the_value_it_does_not_take(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CohortRecipe(**wrong)


TINY = SlideRecipe(width=384, height=384, pieces=1, tile=128, pen_marks=0, folds=0)
COHORT = CohortRecipe(
    patients=15, slides=(1, 2), ambiguous=0.4, lesion_share=(0.1, 0.2), seed=4, slide=TINY
)


def rows_of(recipe: CohortRecipe, folder: Path) -> list[dict[str, str]]:
    _, manifest = result_of(write_cohort(recipe, folder))
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("cohort")
    return folder, rows_of(COHORT, folder)


def test_the_record_decides_where_the_picture_shows_two_kinds(
    cohort: tuple[Path, list[dict[str, str]]],
) -> None:
    folder, rows = cohort
    ambiguous: dict[str, str] = {}
    for row in rows:
        slide = folder / row["slide_path"]
        kinds = "".join(sorted(load_truth(slide.with_suffix(".truth.geojson")).lesions))
        record = {v.name: float(row[v.name]) for v in VARIABLES}
        if kinds == "AB":
            ambiguous[row["patient_id"]] = row["label"]
            assert row["label"] == ("A" if leaning(record) > 0 else "B")
        else:
            assert kinds == row["label"]
    assert len(ambiguous) == 6
    assert set(ambiguous.values()) == {"A", "B"}


def test_a_manifest_repeats_the_patient_in_each_of_several_slides(
    cohort: tuple[Path, list[dict[str, str]]],
) -> None:
    folder, rows = cohort
    patients = {row["patient_id"]: row for row in rows}
    assert len(patients) == 15 < len(rows)
    own = {"slide_id", "slide_path"}
    for row in rows:
        assert (folder / row["slide_path"]).is_file()
        assert all(row[k] == v for k, v in patients[row["patient_id"]].items() if k not in own)
    splits = [row["split"] for row in patients.values()]
    assert {s: splits.count(s) for s in set(splits)} == {"train": 9, "validation": 3, "test": 3}
    assert all(row["event"] in "01" and float(row["time"]) > 0 for row in rows)


def test_a_high_ldh_points_to_lesion_a_and_the_interview_to_nothing() -> None:
    middle = {v.name: v.center for v in VARIABLES}
    assert leaning(middle | {"ldh": 900.0}) > 0 > leaning(middle | {"ldh": 110.0})
    assert leaning(middle | {"age": 90.0, "fever": 1.0}) == leaning(middle)
    groups = [v.group for v in VARIABLES]
    assert (groups.count("interview"), groups.count("blood")) == (18, 10)


def test_missing_groups_leave_all_their_cells_empty_and_the_label_as_it_was(tmp_path: Path) -> None:
    recipe = replace(COHORT, patients=6, slides=(1, 1), missing={"blood": 1.0})
    rows = rows_of(recipe, tmp_path / "without")
    complete = rows_of(replace(recipe, missing={}), tmp_path / "with")
    for row, full in zip(rows, complete, strict=True):
        assert all((row[v.name] == "") == (v.group == "blood") for v in VARIABLES)
        assert row["label"] == full["label"]


def test_some_slides_are_those_of_the_whole_cohort_and_the_manifest_waits_for_none(
    cohort: tuple[Path, list[dict[str, str]]], tmp_path: Path
) -> None:
    folder, rows = cohort
    manifest = write_patients(COHORT, tmp_path)
    assert manifest.read_bytes() == (folder / "manifest.csv").read_bytes()
    progress, _ = result_of(write_slides(COHORT, tmp_path, {rows[3]["slide_id"]}))
    assert progress[-1] == 1
    (painted,) = tmp_path.glob("slides/*.tiff")
    assert painted == tmp_path / rows[3]["slide_path"]
    assert painted.read_bytes() == (folder / rows[3]["slide_path"]).read_bytes()


def test_patients_are_named_by_the_prefix_and_are_otherwise_the_same(
    cohort: tuple[Path, list[dict[str, str]]], tmp_path: Path
) -> None:
    first = cohort[1][0]
    with write_patients(replace(COHORT, prefix="T"), tmp_path).open(newline="") as file:
        renamed = next(csv.DictReader(file))
    own = {"patient_id", "slide_id", "slide_path"}
    assert renamed["slide_path"] == first["slide_path"].replace("P", "T")
    assert {k: v for k, v in renamed.items() if k not in own} == {
        k: v for k, v in first.items() if k not in own
    }


def test_in_a_binary_cohort_lesions_make_the_label(tmp_path: Path) -> None:
    recipe = replace(COHORT, task="binary", patients=4, slides=(1, 1))
    for row in rows_of(recipe, tmp_path):
        truth = load_truth((tmp_path / row["slide_path"]).with_suffix(".truth.geojson"))
        assert row["label"] == ("positive" if truth.lesions else "negative")


def test_the_demo_recipe_is_read_with_all_it_says() -> None:
    recipe = load_recipe(DEMO)
    assert recipe.task == "three-class"
    assert recipe.slides == (1, 2)
    assert recipe.slide.width == 6144
    assert recipe.missing["blood"] > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("patient = 3", "unknown setting 'patient'; known are"),
        ("[slide]\nmpp = 50", "mpp must be between"),
        ("patients = ", "recipe .*bad.toml"),
    ],
)
def test_a_bad_recipe_file_is_named_with_its_fault(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ValueError, match=named):
        load_recipe(tmp_path / "bad.toml")
