"""Following: an answer that nobody waits for any more is not made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_wsimil.explain.predict import Prediction
from napari_wsimil.features.bag import Bag
from napari_wsimil.workflows.live_update import Question, Revised, answers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ready:
    """Answers in two parts, and counts those that were made."""

    made = 0

    def revise(self, record: Any, seen: Prediction, first: torch.Tensor) -> Iterator[Prediction]:
        for logits in (seen.logits, torch.ones(2)):
            self.made += 1
            yield replace(seen, logits=logits)


@pytest.fixture
def asked() -> Question:
    nothing: Any = None
    bag = Bag(torch.ones(3, 2))
    seen = Prediction(bag, nothing, torch.zeros(2), torch.ones(2) / 2, (), {}, ())
    return Question(nothing, bag, nothing, seen, None, "", torch.tensor([0]))


def test_patches_in_view_come_first_then_all(asked: Question) -> None:
    parts = [part for part in answers(asked, Ready(), lambda: False) if isinstance(part, Revised)]
    assert [part.whole for part in parts] == [False, True]


def test_what_is_overtaken_is_cut_short_between_its_parts(asked: Question) -> None:
    ready, overtaken = Ready(), iter([False, True])
    assert len(list(answers(asked, ready, lambda: next(overtaken)))) == 1
    assert ready.made == 1


def test_what_is_overtaken_before_it_begins_is_not_made(asked: Question) -> None:
    ready = Ready()
    assert list(answers(asked, ready, lambda: True)) == []
    assert ready.made == 0
