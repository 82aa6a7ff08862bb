"""Features are extracted patch by patch, stopped, resumed, and never mixed up."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from napari_wsimil.features.encoders.base import EncoderCard, PatchEncoder
from napari_wsimil.features.extraction import EncodedBatch, estimate, extract_features
from napari_wsimil.features.store import load_bag
from napari_wsimil.slides.geometry import SlideError
from napari_wsimil.slides.patch_grid import PatchGrid, lay_grid
from napari_wsimil.slides.reading import READER_VERSION, Reading
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.slides.tissue import Tissue

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_wsimil.features.bag import Bag


class CodedSlide:
    """A slide whose patches hold their own place: red is x / 8, green is y / 8."""

    name, fingerprint, synthetic = "coded", "f00d", True
    reading = Reading(READER_VERSION, {})

    def __init__(self, gone_after: int = 10**9) -> None:
        self.reads = 0
        self.gone_after = gone_after
        self.threads: set[str] = set()

    def read_patch(self, x: int, y: int, extent: int, pixels: int) -> np.ndarray:
        self.reads += 1
        self.threads.add(threading.current_thread().name)
        if self.reads > self.gone_after:
            raise SlideError("coded.svs: cannot be read any more")
        color = np.array([x // extent, y // extent, extent], dtype=np.uint8)
        return np.broadcast_to(color, (pixels, pixels, 3))


class MeanColor(PatchEncoder):
    """Mean of red, green and blue."""

    def __init__(self, largest_batch: int = 8) -> None:
        unit = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        super().__init__(EncoderCard("mean", "0" * 64, 3, 6, None, *unit, "-"), largest_batch)
        self.batches: list[int] = []

    def encode(self, patches: Tensor) -> Tensor:
        self.batches.append(len(patches))
        return patches.float().mean(dim=(1, 2))


GRID = PatchGrid(
    8 * np.stack(np.meshgrid(np.arange(10), np.arange(7)), axis=-1).reshape(-1, 2), 8, 8, 6
)
EXPECTED = torch.cat([torch.from_numpy(GRID.coords / 8).float(), torch.full((70, 1), 8.0)], 1)


def run(steps: Generator[EncodedBatch, None, Bag]) -> tuple[list[EncodedBatch], Bag]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return seen, stop.value


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("read-patches")]


def test_row_i_is_patch_i_and_progress_hands_over_every_row_once() -> None:
    slide = CodedSlide()
    seen, bag = run(extract_features(slide, GRID, MeanColor(), threads=3))
    assert torch.equal(bag.features, EXPECTED)
    assert (bag.encoder, bag.slide, bag.synthetic) == ("mean@" + "0" * 16, "f00d", True)
    assert bag.grid is GRID
    assert [p.total for p in seen] == [70] * len(seen)
    assert [p.done for p in seen] == [p.start + len(p.rows) for p in seen]
    assert np.array_equal(np.concatenate([p.rows for p in seen]), EXPECTED)
    assert all(name.startswith("read-patches") for name in slide.threads)


def test_the_encoder_never_gets_more_than_it_takes_or_is_asked_for() -> None:
    encoder = MeanColor(largest_batch=8)
    run(extract_features(CodedSlide(), GRID, encoder, batch=32))
    run(extract_features(CodedSlide(), GRID, encoder, batch=5))
    assert encoder.batches == [8] * 8 + [6] + [5] * 14


def test_the_name_of_the_slides_file_is_not_written(tmp_path: Path) -> None:
    run(extract_features(CodedSlide(), GRID, MeanColor(), tmp_path / "a.h5"))
    with h5py.File(tmp_path / "a.h5") as file:
        assert {file[name].attrs["name"] for name in ("features", "coords")} == {"f00d"}
    assert b"coded" not in (tmp_path / "a.h5").read_bytes()


def test_an_interrupted_run_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    steps = extract_features(CodedSlide(), GRID, MeanColor(), path)
    done = [next(steps).done for _ in range(4)][-1]
    steps.close()
    assert readers() == []
    assert len(load_bag(path, partial=True)) == done == 24

    slide = CodedSlide()
    seen, bag = run(extract_features(slide, GRID, MeanColor(), path))
    assert (seen[0].done, len(seen[0].rows), slide.reads) == (24, 24, 70 - 24)
    assert torch.equal(bag.features, EXPECTED)
    assert torch.equal(load_bag(path).features, EXPECTED)

    slide = CodedSlide()
    _, again = run(extract_features(slide, GRID, MeanColor(), path))
    assert (slide.reads, torch.equal(again.features, EXPECTED)) == (0, True)


def test_closing_early_reads_little_ahead_and_leaves_no_thread() -> None:
    slide = CodedSlide()
    steps = extract_features(slide, GRID, MeanColor(largest_batch=4), threads=2)
    next(steps)
    next(steps)
    steps.close()
    assert slide.reads <= 4 + 2 * 4
    assert readers() == []


def test_a_full_disk_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, calls = tmp_path / "a.h5", os.posix_fallocate, []

    def full_at_the_third(handle: int, start: int, size: int) -> None:
        calls.append(size)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full_at_the_third)
    with pytest.raises(OSError, match="No space left") as failure:
        run(extract_features(CodedSlide(), GRID, MeanColor(), path))
    assert failure.value.errno == errno.ENOSPC
    assert readers() == []
    assert torch.equal(load_bag(path, partial=True).features, EXPECTED[:16])
    _, bag = run(extract_features(CodedSlide(), GRID, MeanColor(), path))
    assert torch.equal(load_bag(path).features, EXPECTED)
    assert torch.equal(bag.features, EXPECTED)


def test_a_slide_that_disappears_ends_the_run_and_keeps_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(SlideError, match=r"coded\.svs"):
        run(extract_features(CodedSlide(gone_after=40), GRID, MeanColor(), path, threads=1))
    assert readers() == []
    kept = load_bag(path, partial=True)
    assert 24 <= len(kept) <= 40
    assert torch.equal(kept.features, EXPECTED[: len(kept)])


def test_the_file_of_another_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    run(extract_features(CodedSlide(), GRID, MeanColor(), path))
    other = MeanColor()
    other.card = replace(other.card, sha256="1" * 64)
    with pytest.raises(ValueError, match=r"a\.h5.*its encoder is 'mean@000"):
        next(extract_features(CodedSlide(), GRID, other, path))


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(MeanColor):
        def encode(self, patches: Tensor) -> Tensor:
            return super().encode(patches) / 0

    with pytest.raises(ValueError, match="coded: mean returned NaN or infinite .* 0 to 7"):
        run(extract_features(CodedSlide(), GRID, Broken()))


def test_features_can_be_trained_on() -> None:
    _, bag = run(extract_features(CodedSlide(), GRID, MeanColor()))
    weight = torch.ones(3, requires_grad=True)
    (bag.features @ weight).sum().backward()
    assert weight.grad is not None


def test_an_estimate_scales_with_the_patches() -> None:
    found = estimate(CodedSlide(), GRID, MeanColor())
    assert found.patches_per_second > 0
    assert found.hours == pytest.approx(70 / found.patches_per_second / 3600)
    assert found.gigabytes == pytest.approx(70 * (3 * 4 + 16) / 1e9)


def test_patches_of_a_real_slide_are_its_pixels(small_slide: Path) -> None:
    with open_slide(small_slide) as slide:
        width, height = slide.dimensions
        everywhere = Tissue(np.ones((height // 100, width // 100), dtype=bool), 100.0)
        grid = lay_grid(slide, everywhere, 600, 600, 6)
        _, bag = run(extract_features(slide, grid, MeanColor()))
        means = [slide.read_region(x, y, 600, 600).mean(axis=(0, 1)) for x, y in grid.coords]
    np.testing.assert_allclose(bag.features, means, atol=1.0)
