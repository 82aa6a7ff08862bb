"""A slide that states no hash of its own is known by its content."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_wsimil.space.readers.content import content_digest
from napari_wsimil.space.readers.openslide import OpenSlideReader

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


def test_a_folder_is_known_by_its_first_dicom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = SimpleNamespace(
        properties={},
        level_dimensions=((9, 9),),
        level_downsamples=(1.0,),
        dimensions=(9, 9),
        associated_images={},
    )
    monkeypatch.setattr("openslide.OpenSlide", lambda _: bare)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.dcm").write_bytes(name.encode())
    one, two = (OpenSlideReader(tmp_path / name).identity for name in ("one", "two"))
    assert one == content_digest(tmp_path / "one" / "1.dcm") != two
