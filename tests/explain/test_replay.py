"""Replay, exploration and what is drawn of looks: each step is that of an episode ended there."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.explain.predict import explore, predict
from napari_wsimil.explain.replay import Replay
from napari_wsimil.explain.trajectory import costs, order, sub_patches
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.subpatches import FineFeatures
from napari_wsimil.models import create_model
from napari_wsimil.models.card import Card
from napari_wsimil.models.protocols import SequentialModel
from napari_wsimil.models.sasha import SASHA
from napari_wsimil.models.trajectory import Look, Trajectory, policy_map
from napari_wsimil.progress import Progress, finish
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.models.base import Explanation, MILModel

N, K, D = 60, 4, 6


def make_bag(n: int = N, seed: int = 1) -> Bag:
    """Return patches in groups that resemble each other, so that looks update others."""
    random = torch.Generator().manual_seed(seed)
    centers = 2 * torch.randn(8, D, generator=random)
    z = centers[torch.arange(n) % 8] + 0.3 * torch.randn(n, D, generator=random)
    finer = z[:, None] + torch.randn(n, K, D, generator=random)
    return Bag(z, encoder="test", grid=make_grid(n), finer=finer)


def make_grid(n: int = N, size: int = 100) -> PatchGrid:
    index = np.arange(n, dtype=np.int64)
    coords = np.stack([index % 10, index // 10], axis=1) * size
    return PatchGrid(coords, patch_size=size, stride=size, pixels=50, mpp=0.5)


def make_model(**options: float) -> SASHA:
    torch.manual_seed(0)
    model = SASHA(feature_dim=D, classes=2, tau=0.9, budget=0.5, **options)  # type: ignore[arg-type]
    model.updater.change.weight.data *= 10  # an update that shows
    return model.eval()


def make_card(model: MILModel, name: str = "sasha") -> Card:
    return Card(
        model=name,
        config=model.config,
        encoder="test",
        encoder_dim=D,
        mpp=0.5,
        pixels=50,
        classes=("normal", "tumor"),
        data="made up",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )


@pytest.fixture
def model() -> SASHA:
    return make_model()


@pytest.fixture
def bag() -> Bag:
    return make_bag()


@pytest.fixture
def trajectory(model: SASHA, bag: Bag) -> Trajectory:
    found = model(bag).trajectory
    assert isinstance(found, Trajectory)
    assert sum(len(look.updated) for look in found.looks) > 10
    return found


def same(one: Explanation, other: Explanation) -> bool:
    alike = torch.equal(one.scores.nan_to_num(-7), other.scores.nan_to_num(-7))
    return alike and (one.name, one.kind) == (other.name, other.kind)


def unread(_: int) -> torch.Tensor:
    raise AssertionError("the slide was read again")


def policy_of(model: SASHA, bag: Bag, looks: Sequence[Look], step: int) -> Explanation:
    """Return the policy of a step, from an episode that ended before it."""
    return policy_map(model.replay(bag, looks[: step - 1]).policy(), step)


@pytest.mark.parametrize("seed", [0, 1])
def test_any_step_in_any_order_is_bit_for_bit_an_episode_that_ended_there(
    model: SASHA, bag: Bag, trajectory: Trajectory, seed: int
) -> None:
    looks = trajectory.looks
    replay = Replay(model, replace(bag, finer=unread), trajectory)
    assert replay.steps == len(looks) == 30
    steps = [*range(4), *random.Random(seed).sample(range(31), 31), 0, 30]
    for step in steps:
        expected = model.outcome(bag, looks[:step]).explanations
        found = replay.maps(step)
        assert all(same(*pair) for pair in zip(found, expected, strict=True))
        if step:
            assert same(replay.policy(step), policy_of(model, bag, looks, step))


def test_what_is_done_to_a_map_does_not_reach_the_replay(
    model: SASHA, bag: Bag, trajectory: Trajectory
) -> None:
    replay = Replay(model, bag, trajectory)
    with torch.inference_mode():
        for map_ in (*replay.maps(5), replay.policy(5)):
            map_.scores.zero_()
    expected = model.outcome(bag, trajectory.looks[:5]).explanations
    assert all(same(*pair) for pair in zip(replay.maps(5), expected, strict=True))
    assert same(replay.policy(5), policy_of(model, bag, trajectory.looks, 5))


def test_looks_are_done_over_again_once(
    model: SASHA, bag: Bag, trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay(model, bag, trajectory)
    updates: list[int] = []
    model.updater.register_forward_hook(lambda _, inputs, __: updates.append(len(inputs[2])))
    replay.maps(20)
    once = len(updates)
    assert once == sum(len(look.updated) > 0 for look in trajectory.looks[:20])
    replay.maps(3)
    replay.policy(20)
    replay.maps(20)
    assert len(updates) == once


def test_far_steps_can_be_reached_in_pieces(model: SASHA, bag: Bag, trajectory: Trajectory) -> None:
    replay = Replay(model, bag, trajectory)
    work = replay.reach(20)
    assert [next(work) for _ in range(3)] == [Progress(n, 20) for n in range(3)]
    work.close()
    assert list(replay.reach(20)) == [Progress(n, 20) for n in range(2, 20)]
    assert list(replay.reach(20)) == []
    for step in (20, 2, 25):
        expected = model.outcome(bag, trajectory.looks[:step]).explanations
        assert all(same(*pair) for pair in zip(replay.maps(step), expected, strict=True))


def test_the_first_looks_of_a_stopped_episode_can_be_replayed(model: SASHA, bag: Bag) -> None:
    episode = model.episode(bag)
    looks = [next(episode) for _ in range(7)]
    episode.close()
    stopped = model.outcome(bag, looks).trajectory
    assert isinstance(stopped, Trajectory)
    replay = Replay(model, bag, stopped)
    whole = model.outcome(bag, looks).explanations
    assert all(same(*pair) for pair in zip(replay.maps(7), whole, strict=True))
    with pytest.raises(ValueError, match="step 8 must be from 0 to 7"):
        replay.maps(8)
    with pytest.raises(ValueError, match="step 8 is none of the 7 steps"):
        replay.policy(8)


def test_before_the_first_look_there_is_nothing_to_replay_but_the_coarse_state(
    model: SASHA, bag: Bag
) -> None:
    nothing = model.outcome(bag, []).trajectory
    assert isinstance(nothing, Trajectory)
    replay = Replay(model, bag, nothing)
    expected = model.outcome(bag, []).explanations
    assert all(same(*pair) for pair in zip(replay.maps(0), expected, strict=True))
    with pytest.raises(ValueError, match="step 1 is none of the 0 steps"):
        replay.policy(1)
    with pytest.raises(ValueError, match="step -1"):
        replay.maps(-1)


def test_looks_at_another_slide_are_refused(model: SASHA, trajectory: Trajectory) -> None:
    with pytest.raises(ValueError, match="the trajectory has 60 patches and the bag 59"):
        Replay(model, make_bag(59), trajectory)


# Exploration


def test_exploration_ends_in_the_prediction(model: SASHA, bag: Bag) -> None:
    card = make_card(model)
    expected = predict(model, card, bag)
    steps = explore(model.train(), card, bag)
    found = finish(steps)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.probabilities, expected.probabilities)
    assert all(same(*p) for p in zip(found.explanations, expected.explanations, strict=True))
    assert found.scalars == expected.scalars
    assert found.warnings == expected.warnings
    assert found.bag is bag


def test_each_step_tells_its_look_and_later_what_was_seen_then(model: SASHA, bag: Bag) -> None:
    card, looks = make_card(model), predict(model, make_card(model), bag).trajectory.looks
    steps = list(explore(model, card, bag))
    assert [(step.done, step.total) for step in steps] == [(n, 30) for n in range(1, 31)]
    assert [step.look.patch for step in steps] == [look.patch for look in looks]
    for step in (steps[0], steps[11]):
        found = step.so_far()
        expected = model.outcome(bag, looks[: step.done])
        assert torch.equal(found.logits, expected.logits)
        torch.testing.assert_close(found.probabilities, step.look.probabilities)
        assert all(same(*p) for p in zip(found.explanations, expected.explanations, strict=True))
        assert len(found.trajectory.looks) == step.done
        assert found.card is card


def test_closed_early_what_was_seen_is_still_told_and_nothing_more_is_read(model: SASHA) -> None:
    bag, read = make_bag(), []
    stored = bag.finer

    def finer(patch: int) -> torch.Tensor:
        read.append(patch)
        return stored[patch]

    lazy = replace(bag, finer=finer)
    work = explore(model, make_card(model), lazy)
    step = [next(work) for _ in range(5)][-1]
    work.close()
    found = step.so_far()
    assert len(read) == 5
    assert found.scalars["patches looked at"] == 5
    assert torch.equal(found.logits, model.outcome(bag, step.looks).logits)


def test_models_are_told_apart_by_what_they_can_and_others_are_refused(bag: Bag) -> None:
    assert isinstance(make_model(), SequentialModel)
    plain = create_model("hafed", feature_dim=D, classes=2)
    assert not isinstance(plain, SequentialModel)
    with pytest.raises(ValueError, match="hafed is not a sequential model"):
        next(explore(plain, make_card(plain, "hafed"), bag))


def test_exploration_checks_the_encoder_and_that_the_answer_is_a_number(
    model: SASHA, bag: Bag
) -> None:
    card = make_card(model)
    with pytest.raises(ValueError, match='made by the encoder "other"'):
        next(explore(model, card, replace(bag, encoder="other")))
    model.head.bias.data += float("inf")
    with pytest.raises(ValueError, match="diverged"):
        finish(explore(model, card, bag))


# What is drawn


def test_sub_patches_lie_where_they_were_read(trajectory: Trajectory) -> None:
    grid = make_grid()
    found, scores = sub_patches(grid, trajectory, 3)
    fine = FineFeatures(None, grid, None, side=2)  # type: ignore[arg-type]
    corners = [c for look in trajectory.looks[:3] for c in fine.corners(look.patch)]
    assert found.coords.tolist() == [list(corner) for corner in corners]
    assert (found.patch_size, found.stride, found.pixels, found.mpp) == (50, 50, 50, 0.25)
    expected = [K * a for look in trajectory.looks[:3] for a in look.attention.tolist()]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert scores.reshape(3, K).mean(axis=1) == pytest.approx(1)


def test_no_look_has_no_sub_patches(trajectory: Trajectory) -> None:
    for some in (trajectory, replace(trajectory, looks=())):
        found, scores = sub_patches(make_grid(), some, 0)
        assert found.coords.shape == (0, 2)
        assert scores.shape == (0,)


def test_a_patch_of_uneven_pixels_has_parts_rounded_down(trajectory: Trajectory) -> None:
    grid = make_grid(size=101)
    found, _ = sub_patches(grid, trajectory, 1)
    x, y = grid.coords[trajectory.looks[0].patch].tolist()
    assert found.coords.tolist() == [[x, y], [x, y + 50], [x + 50, y], [x + 50, y + 50]]
    assert found.patch_size == 50
    assert found.mpp == pytest.approx(0.5 * 50 / 101 * 50 / 50)


def look(patch: int, k: int) -> Look:
    uniform = torch.full((k,), 1 / k)
    return Look(patch, 0.0, 0.0, torch.ones(2) / 2, torch.tensor([0]), torch.zeros(D), uniform)


def test_sub_patches_that_make_no_square_are_refused() -> None:
    odd = Trajectory(N, torch.ones(2) / 2, (look(3, 6),))
    with pytest.raises(ValueError, match="the 6 sub-patches of a patch are not the square"):
        sub_patches(make_grid(), odd, 1)
    nine = Trajectory(N, torch.ones(2) / 2, (look(3, 9),))
    assert len(sub_patches(make_grid(), nine, 1, side=3)[0]) == 9
    with pytest.raises(ValueError, match="the 9 sub-patches of a patch are not 2 by 2"):
        sub_patches(make_grid(), nine, 1, side=2)
    with pytest.raises(ValueError, match="patches of 2 level-0 pixels have no 3 parts per side"):
        sub_patches(make_grid(size=2), nine, 1)
    with pytest.raises(ValueError, match="the trajectory has 60 patches, the grid 59"):
        sub_patches(make_grid(59), nine, 1)
    with pytest.raises(ValueError, match="step 2 must be from 0 to 1"):
        sub_patches(make_grid(), nine, 2)


def test_costs_count_the_coarse_pass_and_the_looks() -> None:
    some = Trajectory(N, torch.ones(2) / 2, tuple(look(patch, 4) for patch in (3, 9, 1)))
    found = costs(some, 2)
    assert found.calls.tolist() == [60, 64, 68]
    assert found.full == 240
    np.testing.assert_allclose(found.share, [0.25, 64 / 240, 68 / 240])
    assert costs(some).calls[-1] == some.encoder_calls == 72
    nothing = costs(replace(some, looks=()))
    assert nothing.calls.tolist() == [60]
    assert np.isnan(nothing.share).all()
    with pytest.raises(ValueError, match="step 4"):
        costs(some, 4)


def test_the_order_is_that_of_the_first_looks() -> None:
    some = Trajectory(5, torch.ones(2) / 2, tuple(look(patch, 4) for patch in (3, 0, 1)))
    found = order(some, 2)
    assert found[[3, 0]].tolist() == [1, 2]
    assert np.isnan(found[[1, 2, 4]]).all()
    assert np.isnan(order(some, 0)).all()
    with pytest.raises(ValueError, match="step 4"):
        order(some, 4)
