"""Progress of long work: relabeled, finished, and ended with its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_wsimil.progress import Progress, finish, relabel

if TYPE_CHECKING:
    from napari_wsimil.progress import Work


def work(ended: list[str]) -> Work[str]:
    try:
        yield Progress(1, 4, "first")
        yield Progress(2, 4, "second")
    finally:
        ended.append("ended")
    return "result"


def test_relabeled_work_keeps_its_counts_and_returns_its_result() -> None:
    results: list[str] = []

    def kept() -> Work[None]:
        results.append((yield from relabel(work([]), "other")))

    assert list(kept()) == [Progress(1, 4, "other"), Progress(2, 4, "other")]
    assert results == ["result"]


def test_closing_relabeled_work_ends_the_work_itself_at_once() -> None:
    ended: list[str] = []
    inner = work(ended)
    relabeled = relabel(inner, "other")
    next(relabeled)
    relabeled.close()
    assert ended == ["ended"]  # not at garbage collection: `inner` still refers to it


def test_finished_work_gives_its_result() -> None:
    assert finish(work([])) == "result"


@pytest.mark.parametrize(("done", "total", "share"), [(1, 4, 0.25), (3, 0, 0.0)])
def test_the_share_of_work_of_unknown_size_is_zero(done: int, total: int, share: float) -> None:
    assert Progress(done, total).share == share
