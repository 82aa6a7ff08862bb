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

from napari_wsimil.space.geometry import SlideError
from napari_wsimil.space.readers.openslide import OpenSlideReader
from napari_wsimil.space.readers.tiffslide import TiffSlideReader

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from PIL import Image

#: Reads without end from four threads while a fifth closes, 5 times over; a fault ends it.
RACE = """
import sys, threading
from pathlib import Path
from napari_wsimil.space.geometry import SlideError
from napari_wsimil.space.readers.openslide import OpenSlideReader

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
