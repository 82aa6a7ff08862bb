"""A slide may be closed while others still read from it."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
import torch
from windows import handles, result_of, save_untrained

from napari_wsimil.explain.occlusion import removed
from napari_wsimil.features.bag import take_patches
from napari_wsimil.features.store import load_bag
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.readers.openslide import OpenSlideReader
from napari_wsimil.slides.readers.tiffslide import TiffSlideReader
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import find_tissue
from napari_wsimil.workflows.analysis import analyze_job
from napari_wsimil.workflows.pipeline import model_job

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from PIL import Image

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.loaded import LoadedModel

#: Reads without end from four threads while a fifth closes, 5 times over; a fault ends it.
RACE = """
import sys, threading
from pathlib import Path
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.readers.openslide import OpenSlideReader

def read(reader, begin, said):
    begin.wait()
    try:
        while True:
            reader.read_tile(0, 1, 1)
    except SlideError as error:
        said.append(str(error))

for _ in range(5):
    reader, begin, said = OpenSlideReader(Path(sys.argv[1])), threading.Barrier(5), []
    threads = [threading.Thread(target=read, args=(reader, begin, said)) for _ in range(4)]
    for thread in threads:
        thread.start()
    begin.wait()
    reader.read_tile(0, 2, 2)
    reader.close()
    for thread in threads:
        thread.join()
    print(sum("the slide was closed" in one for one in said))
"""


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CMU-1-Small-Region_dicom"])
def test_closing_under_readers_neither_faults_nor_shows_them_another_error(
    data: Path, name: str
) -> None:
    code = [sys.executable, "-c", RACE, str(data / "slides" / name)]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == ["4"] * 5


def test_the_last_of_the_reads_under_way_frees_a_closed_slide(
    small_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = OpenSlideReader(small_slide)
    expected = reader.read_tile(0, 0, 0)
    plain, both = openslide.OpenSlide.read_region, threading.Barrier(2, timeout=10)
    free, freed = openslide.OpenSlide.close, []

    def read_region(slide: openslide.OpenSlide, *where: Any) -> Image.Image:
        both.wait()  # passed only if neither read waits for the other
        reader.close()
        assert not freed
        both.wait()
        return plain(slide, *where)

    def close(slide: openslide.OpenSlide) -> None:
        freed.append(slide)
        free(slide)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    monkeypatch.setattr(openslide.OpenSlide, "close", close)
    with ThreadPoolExecutor(2) as pool:
        for tile in pool.map(lambda _: reader.read_tile(0, 0, 0), range(2)):
            np.testing.assert_array_equal(tile, expected)
    assert len(freed) == 1


@pytest.mark.parametrize("kind", [OpenSlideReader, TiffSlideReader])
def test_a_closed_reader_says_so_and_may_be_closed_again(
    small_slide: Path, kind: type[OpenSlideReader | TiffSlideReader]
) -> None:
    reader = kind(small_slide)
    assert not reader.closed
    for _ in range(2):
        reader.close()
        assert reader.closed
    with pytest.raises(SlideError, match=r"tile \(1, 2\) cannot be read: the slide was closed"):
        reader.read_tile(0, 1, 2)


def test_associated_images_are_not_read_from_a_closed_slide(small_slide: Path) -> None:
    reader = OpenSlideReader(small_slide)
    assert reader.read_associated("macro").ndim == 3
    reader.close()
    with pytest.raises(SlideError, match="macro cannot be read: the slide was closed"):
        reader.read_associated("macro")


@pytest.fixture(scope="module", params=["sasha", "hafed"])
def closer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """An untrained model that looks closer, step by step or at all patches at once."""
    path = tmp_path_factory.mktemp("closer") / "model.safetensors"
    loaded: LoadedModel = result_of(model_job(save_untrained(path, request.param)))
    return loaded


@pytest.fixture
def bag(features: Path) -> Bag:
    """A few patches of the real slide."""
    return take_patches(load_bag(features), torch.arange(8))


def test_runs_that_look_closer_leave_no_file_open_and_the_slides_tiles_alone(
    small_slide: Path, bag: Bag, closer: LoadedModel
) -> None:
    before = handles(small_slide)
    with open_slide(small_slide) as slide:
        tissue = find_tissue(slide)
        alone, used = handles(small_slide), slide.cache.used
        for _ in range(5):
            found = result_of(analyze_job(slide, closer, tissue, bag))
            removed(closer.model, found.prediction, torch.arange(len(bag) - 2))
            del found
            assert handles(small_slide) == alone
        assert slide.cache.used == used
        kept = result_of(analyze_job(slide, closer, tissue, bag))
    assert handles(small_slide) == before
    assert kept.prediction.bag.finer is not None


def test_a_run_ends_at_the_step_after_its_slide_was_closed(
    small_slide: Path, bag: Bag, closer: LoadedModel
) -> None:
    before = handles(small_slide)
    with open_slide(small_slide) as slide:
        job = analyze_job(slide, closer, find_tissue(slide), bag)
        next(step for step in job if step.done == 2)
    assert handles(small_slide) == before
    with pytest.raises(SlideError, match="the slide was closed, which ended the run"):
        next(job)


def test_a_run_that_is_stopped_lets_go_of_its_file(
    small_slide: Path, bag: Bag, closer: LoadedModel
) -> None:
    with open_slide(small_slide) as slide:
        alone = handles(small_slide)
        job = analyze_job(slide, closer, find_tissue(slide), bag)
        while next(job).done != 2:
            pass
        assert handles(small_slide) > alone
        job.close()
        assert handles(small_slide) == alone
