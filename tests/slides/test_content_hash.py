"""A slide that states no hash of its own is known by its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
from dicoms import write_dicom
from pydicom.uid import generate_uid

from napari_wsimil.slides.readers.content_hash import content_digest
from napari_wsimil.slides.readers.openslide import OpenSlideReader

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 10**6


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 1])
def test_a_changed_byte_at_head_middle_or_tail_is_another_file(tmp_path: Path, place: int) -> None:
    content = np.random.default_rng(1).integers(256, size=SIZE, dtype=np.uint8)
    (tmp_path / "a").write_bytes(content.tobytes())
    (tmp_path / "copy").write_bytes(content.tobytes())
    content[place] ^= 1
    (tmp_path / "b").write_bytes(content.tobytes())
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "copy")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")


class Bare(openslide.OpenSlide):
    """An OpenSlide without a hash of its own."""

    @property
    def properties(self) -> dict[str, str]:
        hashes = (openslide.PROPERTY_NAME_QUICKHASH1,)
        return {name: text for name, text in super().properties.items() if name not in hashes}


def test_a_folder_is_known_by_the_finest_dicom_of_its_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openslide.OpenSlide", Bare)
    for name, gray in (("one", 90), ("two", 91)):
        series = generate_uid()
        for size, file in ((64, "1.dcm"), (128, "2.dcm")):
            pixels = np.full((size, size, 3), gray, np.uint8)
            write_dicom(tmp_path / name / file, pixels, series, (0.064 / size, 0.064 / size))
    one, two = (OpenSlideReader(tmp_path / name).identity for name in ("one", "two"))
    assert one == content_digest(tmp_path / "one" / "2.dcm") != two
