"""Concentration of attention, and agreement of maps, against literal loops."""

from __future__ import annotations

import math

import pytest
import torch

from napari_wsimil.explain.statistics import concentration, disagreement, overlap
from napari_wsimil.models.base import Explanation, ExplanationKind

ATTENTION, SCORE = ExplanationKind.ATTENTION, ExplanationKind.SCORE
NAN = torch.nan


def attention(scores: list[float], index: list[int] | None = None) -> Explanation:
    regions = None if index is None else torch.tensor(index)
    return Explanation("attention", ATTENTION, torch.tensor(scores), regions)


def random_maps(count: int, n: int = 50) -> list[Explanation]:
    random = torch.Generator().manual_seed(3)
    drawn = torch.randn(count, n, generator=random).mul(2).softmax(dim=1)
    return [Explanation(f"map {m}", ATTENTION, a) for m, a in enumerate(drawn)]


def test_entropy_is_the_literal_sum() -> None:
    a = random_maps(1)[0]
    h = 0.0
    for share in a.scores.tolist():
        h -= share * math.log(share)
    found = concentration(a)
    assert found.entropy == pytest.approx(h, abs=1e-5)
    assert found.effective == pytest.approx(math.exp(h), rel=1e-5)
    assert found.units == 50
    assert found.share == pytest.approx(math.exp(h) / 50, rel=1e-5)


def test_equal_attention_lies_on_all_units_and_all_attention_on_one() -> None:
    assert concentration(attention([0.25] * 4)).effective == pytest.approx(4)
    assert concentration(attention([0.25] * 4)).share == pytest.approx(1)
    alone = concentration(attention([0.0, 1.0, 0.0]))
    assert (alone.entropy, alone.effective, alone.units) == (0, 1, 3)


def test_what_was_not_attended_to_does_not_count_and_regions_count_as_regions() -> None:
    dropped = concentration(attention([0.5, NAN, 0.5, NAN]))
    assert (dropped.units, dropped.effective) == (2, pytest.approx(2))
    regions = concentration(attention([0.5, 0.5], index=[0] * 60 + [1] * 4))
    assert (regions.units, regions.effective) == (2, pytest.approx(2))


def test_only_attention_can_be_concentrated() -> None:
    with pytest.raises(ValueError, match='"logit" is of kind score, not attention'):
        concentration(Explanation("logit", SCORE, torch.zeros(3)))
    with pytest.raises(ValueError, match="has no value for any unit"):
        concentration(attention([NAN, NAN]))


def test_overlap_is_the_literal_jaccard_index() -> None:
    maps = random_maps(4)
    found = overlap(maps, share=0.2)
    for i, one in enumerate(maps):
        for j, other in enumerate(maps):
            first, second = (
                set(sorted(range(50), key=lambda n: -m.scores[n])[:10]) for m in (one, other)
            )
            expected = len(first & second) / len(first | second)
            assert found[i, j].item() == pytest.approx(expected)
    assert 0 < found[0, 1] < 1


def test_kinds_may_differ_and_the_first_look_is_the_top_of_an_order() -> None:
    looks = Explanation("order", ExplanationKind.ORDER, torch.tensor([NAN, 2.0, 1.0, NAN]))
    score = Explanation("logit", SCORE, torch.tensor([-9.0, -2.0, 5.0, -7.0]))
    assert overlap([looks, score], share=0.25)[0, 1] == 1
    assert overlap([looks, score], share=0.5)[0, 1] == 1
    assert overlap([looks, score], share=1.0)[0, 1] == 0.5


def test_a_region_is_taken_whole() -> None:
    regions = attention([0.7, 0.3], index=[0, 0, 0, 0, 1, 1])
    patches = attention([0.4, 0.1, 0.1, 0.1, 0.2, 0.1])
    assert overlap([regions, patches], share=0.02)[0, 1].item() == pytest.approx(1 / 4)


def test_a_map_that_says_nothing_has_nothing_in_common() -> None:
    nothing = attention([NAN, NAN])
    assert overlap([nothing, attention([0.5, 0.5])]).tolist() == [[0, 0], [0, 1]]


def test_disagreement_is_the_literal_deviation_of_times_uniform() -> None:
    maps = random_maps(3)
    found = disagreement(maps)
    for n in range(50):
        values = [50 * m.scores[n].item() for m in maps]
        mean = sum(values) / 3
        expected = math.sqrt(sum((v - mean) ** 2 for v in values) / 3)
        assert found[n].item() == pytest.approx(expected, abs=1e-5)


def test_each_map_is_measured_by_its_own_number_of_units() -> None:
    regions = attention([0.5, 0.5], index=[0, 0, 0, 1])
    patches = attention([0.25] * 4)
    torch.testing.assert_close(disagreement([regions, patches]), torch.zeros(4))
    dropped = attention([1.0, NAN, NAN, NAN])
    found = disagreement([patches, dropped])
    assert found[0] == 0
    assert found[1:].isnan().all()


def test_maps_that_cannot_be_compared_are_refused() -> None:
    one, score = attention([1.0]), Explanation("logit", SCORE, torch.zeros(1))
    with pytest.raises(ValueError, match="at least two maps, not 1"):
        disagreement([one])
    with pytest.raises(ValueError, match='"logit" is of kind score'):
        disagreement([one, score])
    with pytest.raises(ValueError, match=r"not of \[1, 2\]"):
        disagreement([one, attention([0.5, 0.5])])
    with pytest.raises(ValueError, match=r"not of \[1, 2\]"):
        overlap([one, attention([0.5, 0.5])])
    with pytest.raises(ValueError, match="not of none"):
        overlap([])
    with pytest.raises(ValueError, match="share must be"):
        overlap([one], share=1.5)
