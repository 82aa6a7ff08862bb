"""Movement: brighter and moved are two things, and differences have one scale."""

from __future__ import annotations

import math

import pytest
import torch
from builders import prediction

from napari_wsimil.explain.color_scale import Stretch, scaled
from napari_wsimil.explain.map_shift import (
    LEVEL_LIMIT,
    SHARE_LIMIT,
    difference,
    level_difference,
    movement,
    share_difference,
)
from napari_wsimil.models.base import Explanation, ExplanationKind

SIGMOID, ATTENTION = ExplanationKind.SIGMOID, ExplanationKind.ATTENTION


def of(scores: list[float], kind: ExplanationKind = SIGMOID) -> Explanation:
    return Explanation("explanatory", kind, torch.tensor(scores))


def random_map(seed: int, n: int = 300) -> Explanation:
    return of(torch.rand(n, generator=torch.Generator().manual_seed(seed)).pow(4).tolist())


def test_a_map_that_is_twice_as_bright_has_not_moved() -> None:
    before = random_map(1)
    found = movement(before, of((before.scores * 2).tolist()))
    assert found.brighter == pytest.approx(1)
    assert found.moved == pytest.approx(0, abs=1e-6)
    assert found.distance == pytest.approx(0, abs=1e-6)
    assert found.overlap == 1
    even = share_difference(before, of((before.scores * 2).tolist()))
    assert even.scores.abs().max() < 1e-4


def test_a_map_that_goes_elsewhere_has_moved_wholly_and_is_no_brighter() -> None:
    found = movement(of([0.4, 0.2, 0, 0]), of([0, 0, 0.3, 0.3]))
    assert found.brighter == pytest.approx(0, abs=1e-6)
    assert (found.moved, found.distance, found.overlap) == pytest.approx((1, 1, 0))


def test_figures_are_those_of_a_loop_over_patches() -> None:
    before, after = random_map(1), random_map(2)
    a, b = before.scores.tolist(), after.scores.tolist()
    moved = bits = 0.0
    for x, y in zip(a, b, strict=True):
        p, q = x / sum(a), y / sum(b)
        moved += abs(p - q) / 2
        for share in (p, q):
            bits += share * math.log2(2 * share / (p + q)) / 2 if share else 0
    first = [sorted(range(300), key=lambda k: -s[k])[:3] for s in (a, b)]
    found = movement(before, after)
    assert found.brighter == pytest.approx(sum(b) / sum(a) - 1, rel=1e-5)
    assert found.moved == pytest.approx(moved, rel=1e-5)
    assert found.distance == pytest.approx(math.sqrt(bits), rel=1e-5)
    assert found.overlap == pytest.approx(len(set(first[0]) & set(first[1])) / 3)


def test_overlap_is_of_the_first_hundredth_of_the_patches() -> None:
    scores = [float(500 - k) for k in range(300)]
    swapped = [*scores[:2], scores[4], scores[3], scores[2], *scores[5:]]
    assert movement(of(scores), of(swapped)).overlap == pytest.approx(2 / 3)


def test_movement_is_the_same_both_ways_but_for_brightness() -> None:
    one, other = (movement(random_map(k), random_map(3 - k)) for k in (1, 2))
    assert one.moved == pytest.approx(other.moved)
    assert one.distance == pytest.approx(other.distance)
    assert (1 + one.brighter) * (1 + other.brighter) == pytest.approx(1)


def test_what_is_not_looked_at_has_no_share() -> None:
    found = movement(of([1.0, math.nan], ATTENTION), of([0.5, 0.5], ATTENTION))
    assert found.moved == pytest.approx(0.5)


def test_patches_of_a_region_have_its_score() -> None:
    index = torch.tensor([0, 0, 1])
    before = Explanation("by region", ATTENTION, torch.tensor([0.5, 0.5]), index)
    after = Explanation("by region", ATTENTION, torch.tensor([0.0, 1.0]), index)
    assert movement(before, after).moved == pytest.approx(2 / 3)


def test_a_map_of_nothing_lies_nowhere() -> None:
    found = movement(of([0, 0]), of([1, 1]))
    assert math.isnan(found.moved)
    assert math.isnan(found.brighter)


def test_an_order_of_looks_has_no_shares() -> None:
    kind = ExplanationKind.ORDER
    with pytest.raises(ValueError, match="both must be of the same kind, one of attention"):
        movement(of([1, 2], kind), of([1, 2], kind))


SIGNED = [ExplanationKind.SCORE, ExplanationKind.EVIDENCE]


@pytest.mark.parametrize("kind", SIGNED)
def test_figures_of_a_signed_map_are_those_of_a_loop_over_both_its_parts(
    kind: ExplanationKind,
) -> None:
    draws = torch.Generator().manual_seed(5)
    a, b = (torch.randn(300, generator=draws).pow(3).tolist() for _ in range(2))
    size = [sum(abs(x) for x in scores) for scores in (a, b)]
    moved = bits = turned = 0.0
    for x, y in zip(a, b, strict=True):
        turned += abs(y / size[1] - x / size[0]) / 2
        for sign in (1, -1):  # for and against
            p, q = max(sign * x, 0) / size[0], max(sign * y, 0) / size[1]
            moved += abs(p - q) / 2
            for share in (p, q):
                bits += share * math.log2(2 * share / (p + q)) / 2 if share else 0
    found = movement(of(a, kind), of(b, kind))
    assert found.signed
    assert found.brighter == pytest.approx(size[1] / size[0] - 1, rel=1e-5)
    assert found.moved == pytest.approx(moved, rel=1e-5)
    assert found.distance == pytest.approx(math.sqrt(bits), rel=1e-5)
    gained = share_difference(of(a, kind), of(b, kind)).scores
    assert found.moved == pytest.approx(turned, rel=1e-5)  # what the map of the change adds up to
    assert float(gained.abs().sum()) / 600 == pytest.approx(turned, rel=1e-4)


@pytest.mark.parametrize("kind", SIGNED)
def test_what_turns_its_sign_has_moved_and_what_only_grows_has_not(kind: ExplanationKind) -> None:
    before = of([0.5, -1.0, 0.25, 0.0], kind)
    stronger = movement(before, of((3 * before.scores).tolist(), kind))
    assert (stronger.brighter, stronger.moved, stronger.distance) == pytest.approx((2, 0, 0))
    turned = movement(before, of((-before.scores).tolist(), kind))
    assert (turned.brighter, turned.moved, turned.distance) == pytest.approx((0, 1, 1))
    assert share_difference(before, of((-before.scores).tolist(), kind)).unit.startswith("signed")
    assert math.isnan(movement(before, of([0.0] * 4, kind)).moved)


def test_maps_of_two_kinds_or_bags_are_refused() -> None:
    with pytest.raises(ValueError, match="of kind sigmoid"):
        movement(of([1.0]), of([1.0], ATTENTION))
    with pytest.raises(ValueError, match="the maps have 3 and 2 patches"):
        movement(of([1, 2, 3]), of([1, 2]))


def test_a_share_difference_is_in_even_shares_and_sums_to_nothing() -> None:
    found = share_difference(of([0.5, 0.1, 0.1, 0.3]), of([0.25, 0.25, 0.5, 0]))
    torch.testing.assert_close(found.scores, torch.tensor([-1.0, 0.6, 1.6, -1.2]))


@pytest.mark.parametrize("stretch", list(Stretch))
@pytest.mark.parametrize("size", [0.01, 0.5])
def test_differences_have_one_scale_around_zero_whatever_they_hold(
    stretch: Stretch, size: float
) -> None:
    before, after = of([0.5, 0.5]), of([0.5 + size / 2, 0.5 - size / 2])
    shown = prediction(SIGMOID, [0.0])
    for made, limit in ((share_difference, SHARE_LIMIT), (level_difference, LEVEL_LIMIT)):
        object.__setattr__(shown, "explanations", (made(before, after),))
        scale = scaled(shown, 0, stretch)
        assert scale.limits == (-limit, limit)
        assert scale.values.tolist() == pytest.approx(made(before, after).scores.tolist())


def test_levels_are_of_absolute_maps_alone() -> None:
    difference = level_difference(of([0.25, 0.5]), of([0.75, 0.25]))
    assert difference.scores.tolist() == [0.5, -0.25]
    assert difference.limit == LEVEL_LIMIT
    with pytest.raises(ValueError, match="probability, sigmoid"):
        level_difference(of([0.5], ATTENTION), of([0.5], ATTENTION))


def test_a_difference_is_of_the_class_that_its_maps_are_of() -> None:
    shown = prediction(SIGMOID, [0.0])
    of_class = Explanation("explanatory: 1", SIGMOID, torch.tensor([0.5]), class_index=1)
    moved, brighter = share_difference(of_class, of_class), level_difference(of_class, of_class)
    assert shown.title(moved) == f"explanatory, moved: {shown.card.classes[1]}"
    assert shown.title(brighter) == f"explanatory, brighter: {shown.card.classes[1]}"
    assert share_difference(of([1.0]), of([1.0])).name == "explanatory, moved"


@pytest.mark.parametrize(("kind", "limit"), [(SIGMOID, LEVEL_LIMIT), (ATTENTION, None)])
def test_of_two_maps_absolute_ones_differ_on_the_fixed_scale_too(
    kind: ExplanationKind, limit: float | None
) -> None:
    shown = prediction(kind, [0.0])
    object.__setattr__(shown, "explanations", (of([0.5, 0.5], kind), of([0.25, 0.75], kind)))
    assert difference(shown, 0, shown, 1).limit == limit
