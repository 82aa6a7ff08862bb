"""What is repeated keeps to its share of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_wsimil.workflows import progress as module
from napari_wsimil.workflows.progress import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that moves only when told to."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def test_what_is_quick_is_held_to_the_rate(pass_time: Callable[[float], None]) -> None:
    pace = RateLimiter(0.1, 0.5)
    assert pace.due
    with pace:
        pass_time(0.01)
    pass_time(0.08)
    assert not pace.due
    pass_time(0.02)
    assert pace.due


def test_what_is_slow_is_held_to_its_share(pass_time: Callable[[float], None]) -> None:
    pace = RateLimiter(0.1, 0.05)
    with pace:
        pass_time(0.2)
    pass_time(3.7)
    assert not pace.due
    pass_time(0.2)
    assert pace.due


def test_a_longest_wait_goes_before_the_share(pass_time: Callable[[float], None]) -> None:
    pace = RateLimiter(0.1, 0.05, longest=2.0)
    with pace:
        pass_time(0.5)
    pass_time(1.6)
    assert pace.due
