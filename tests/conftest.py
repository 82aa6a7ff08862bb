"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["windows"]

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # small tensors: more threads only wait for each other


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real slides, tiles and tables; its README says what is in it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WSIMIL_DATA", beside))
    if not (folder / "slides").is_dir():
        pytest.skip(f"no real data at {folder}: set WSIMIL_DATA to the folder that has slides/")
    return folder


@pytest.fixture(scope="session")
def small_slide(data: Path) -> Path:
    """A real one-level Aperio SVS of 2220 × 2967 px at 0.499 µm per pixel."""
    return data / "slides" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def coded_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 1000 × 700 px lossless slide at 0.5 µm whose red and green say which 8-px cell it is.

    Its second level is a quarter of that, cut to whole pixels as scanners do: its
    downsample is not 4.
    """
    import numpy as np
    import tifffile

    y, x = np.mgrid[:700, :1000] // 8
    fine = np.stack([x, y, (x + y) % 7 * 30], axis=-1).astype(np.uint8)
    coarse = fine[2:698:4, 2:998:4]
    path = tmp_path_factory.mktemp("coded") / "coded.svs"
    shared = {"compression": "zlib", "photometric": "rgb", "metadata": None}
    header = "Aperio Image Library v1\r\n1000x700 [0,0 1000x700] (64x64)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(fine, tile=(64, 64), description=header, **shared)
        tiff.write(coarse, **shared)  # the thumbnail's place
        tiff.write(coarse, tile=(64, 64), description=header, **shared)
    return path


@pytest.fixture(scope="session")
def wide_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse white slide of more pixels than may be read at once, a few bytes on disk."""
    import tifffile

    from napari_wsimil.slides.lazy_array import MAX_PIXELS

    path = tmp_path_factory.mktemp("wide") / "wide.tif"
    side = (int(MAX_PIXELS**0.5) // 256 + 1) * 256
    tifffile.imwrite(
        path,
        (b"" for _ in range((side // 256) ** 2)),
        shape=(side, side, 3),
        dtype="uint8",
        tile=(256, 256),
        compression="zlib",
        photometric="rgb",
    )
    return path
