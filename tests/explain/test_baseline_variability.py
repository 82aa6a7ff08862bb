"""Noise: what moves a map when nothing of the patient has changed, and what is within it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from records import D, make_cohort, make_reader, make_slide

from napari_wsimil.explain import baseline_variability as module
from napari_wsimil.explain.baseline_variability import (
    DRAWN,
    DRAWS,
    FOLDS,
    PARTITION,
    Noise,
    noise,
    noise_at_once,
)
from napari_wsimil.explain.map_shift import PLACED, Movement, movement
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.bag import take_patches
from napari_wsimil.models import create_model
from napari_wsimil.models.persam import model as bags
from napari_wsimil.models.persam.model import PersAM
from napari_wsimil.progress import Progress, finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card

RECORD = make_cohort()[5]


def measured(name: str, others: Sequence[tuple[MILModel, Card]] = (), n: int = 150) -> Noise:
    model, card = make_reader(name)
    return finish(noise(model, card, make_slide(n), RECORD, others))


def of(scores: torch.Tensor, like: Explanation) -> Explanation:
    return replace(like, scores=scores)


def test_of_whole_slides_it_is_nine_tenths_of_the_patches_compared_on_these() -> None:
    model, card = make_reader()
    bag = make_slide()
    found = measured("persam-live")
    assert list(found.sources) == [DRAWN]
    whole = predict(model, card, bag, RECORD)
    for draw in range(DRAWS):
        order = torch.randperm(150, generator=torch.Generator().manual_seed(draw + 1))
        kept = torch.tensor(sorted(order[:135].tolist()))
        part = predict(model, card, take_patches(bag, kept), RECORD)
        for before, after in zip(whole.explanations, part.explanations, strict=True):
            wanted = movement(of(before.scores[kept], before), after)
            assert found.sources[DRAWN][before.name][draw] == wanted
            assert wanted.moved > 0
    assert all(one.brighter == 0 for one in found.sources[DRAWN]["attention"])


def test_of_persam_it_is_other_bags_of_the_same_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("persam")
    assert list(found.sources) == [PARTITION]
    model, card = make_reader("persam")
    bag = make_slide()
    whole = predict(model, card, bag, RECORD).explanations[0]
    shuffled = bags.shuffled
    for draw in range(1, DRAWS + 1):
        with monkeypatch.context() as patch:
            patch.setattr(bags, "shuffled", lambda grid, _, seed=draw: shuffled(grid, seed))
            other = predict(model, card, bag, RECORD).explanations[0]
        wanted = movement(whole, other)
        assert wanted.moved > 1e-3
        assert found.sources[PARTITION][whole.name][draw - 1] == wanted


def test_partitions_share_no_seed_with_the_models_own() -> None:
    model, _ = make_reader("persam", passes=2)
    assert isinstance(model, PersAM)
    seen: list[int] = []
    shuffled = bags.shuffled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bags, "shuffled", lambda g, s: seen.append(s) or shuffled(g, s))
        bag = make_slide()
        _, card = make_reader("persam")
        assert card.record is not None
        bag = replace(bag, clinical=card.record.tokens(RECORD))
        model(bag)
        model.repartitioned(bag, 1)
        model.repartitioned(bag, 2)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_fold_models_are_compared_with_the_model_itself() -> None:
    model, card = make_reader()
    other, _ = make_reader()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    found = measured("persam-live", [(other, card), (model, card)])
    far, near = found.sources[FOLDS]["explanatory"]
    assert far.moved > 0
    assert near == Movement(0, 0, 0, 1)
    assert found.bounds("explanatory").keys() == {DRAWN, FOLDS}


def test_bounds_are_the_farthest_of_each_figure() -> None:
    draws = (Movement(-0.5, 0.1, 0.4, 0.9), Movement(0.2, 0.3, 0.2, 0.7))
    found = Noise({"x": {"attention": draws, "other": draws[:1]}})
    assert found.bounds() == {"x": Movement(-0.5, 0.3, 0.4, 0.7)}
    assert found.bounds("other") == {"x": draws[0]}


def test_within_is_no_farther_than_some_source_moves_the_map() -> None:
    def far(moved: float) -> Movement:
        return Movement(5, moved, 0, 0)

    found = Noise({"x": {"a": (far(0.1), far(0.2)), "b": (far(0.5),)}, "y": {"a": (far(0.3),)}})
    assert found.within(far(0.3))
    assert not found.within(far(0.31))
    assert found.within(far(0.31), "b")
    assert not found.within(far(float("nan")))
    with pytest.raises(ValueError, match="no baseline variability for map 'c'"):
        found.within(far(0), "c")


def test_what_rounding_moves_is_within_no_noise_at_all() -> None:
    still = Noise({"x": {"a": (Movement(0, 0, 0, 1),)}})
    assert still.within(Movement(0, module.ROUNDING / 2, 0, 1))
    assert not still.within(Movement(0, module.ROUNDING * 2, 0, 1))


def test_attention_that_never_follows_the_record_is_within_noise() -> None:
    found = measured("bd")
    assert found.within(Movement(0, 0, 0, 1), "multi-modal attention")


def test_maps_of_regions_are_compared_patch_by_patch() -> None:
    model = create_model("querent", feature_dim=D, classes=2, width=8, region_size=4)
    _, card = make_reader()
    card = card.model_copy(update={"model": "querent", "record": None})
    bag = make_slide()
    regions = [map_ for map_ in predict(model, card, bag).explanations if map_.index is not None]
    found = finish(noise(model, card, bag, None))
    assert regions
    assert found.sources[DRAWN].keys() >= {map_.name for map_ in regions if map_.kind in PLACED}


def test_it_tells_how_far_it_is_and_can_be_stopped_after_a_pass() -> None:
    model, card = make_reader()
    work = noise(model, card, make_slide(20), RECORD)
    assert [next(work).done for _ in range(3)] == [1, 2, 3]
    work.close()
    asked = (model, card, make_slide(20), RECORD, [(model, card)])
    assert list(noise(*asked))[-1] == Progress(2 + DRAWS, 2 + DRAWS)
    assert finish(noise(*asked)) == noise_at_once(*asked)
