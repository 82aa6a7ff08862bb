"""The numbers of a map as they are shown: named, limited, never silently stretched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import prediction

from napari_wsimil.explain.color_scale import DEFAULT_TOP, Stretch, scaled
from napari_wsimil.models.base import Explanation, ExplanationKind


def test_attention_is_shown_in_times_of_uniform_attention() -> None:
    scale = scaled(prediction(ExplanationKind.ATTENTION, [0.5, 0.25, 0.25, 0.0]))
    assert scale.unit == "× average"
    assert "not tumor probability" in scale.caveat
    np.testing.assert_allclose(scale.values, [2, 1, 1, 0])


def test_limits_of_attention_do_not_depend_on_the_slide() -> None:
    flat = scaled(prediction(ExplanationKind.ATTENTION, [0.25] * 4))
    steep = scaled(prediction(ExplanationKind.ATTENTION, [1.0, 0.0, 0.0, 0.0]))
    assert flat.limits == steep.limits == (0, DEFAULT_TOP)
    told = scaled(prediction(ExplanationKind.ATTENTION, [1.0], attention_top=4.0))
    assert told.limits == (0, 4.0)


def test_raw_attention_is_named_raw() -> None:
    shown = Stretch.RAW
    scale = scaled(prediction(ExplanationKind.ATTENTION, [0.7, 0.3]), stretch=shown)
    assert scale.unit.startswith("raw")
    assert scale.limits == (0, 1.0)


def test_ranks_share_ties_and_say_that_they_are_ranks() -> None:
    shown = Stretch.RANKS
    scale = scaled(prediction(ExplanationKind.SCORE, [3.0, -1.0, 3.0]), stretch=shown)
    assert "ranks only" in scale.unit
    np.testing.assert_allclose(scale.values, [75, 0, 75])


@pytest.mark.parametrize("stretch", list(Stretch))
def test_a_sigmoid_is_never_stretched(stretch: Stretch) -> None:
    scale = scaled(prediction(ExplanationKind.SIGMOID, [0.2, 0.4]), stretch=stretch)
    assert scale.limits == (0, 1)
    np.testing.assert_allclose(scale.values, [0.2, 0.4])


def test_signed_evidence_has_limits_on_both_sides_of_zero() -> None:
    scale = scaled(prediction(ExplanationKind.EVIDENCE, [0.1, -0.4]))
    assert scale.limits == (-0.5, 0.5)
    colors = scale.colored()
    assert colors[0].tolist() != colors[1].tolist()


def test_the_threshold_clears_what_is_weak_and_keeps_what_counts_against() -> None:
    scale = scaled(prediction(ExplanationKind.EVIDENCE, [0.1, -0.4, 0.3]))
    shown = scale.shown(0.5)
    assert np.isnan(shown[0])
    np.testing.assert_allclose(shown[1:], [-0.4, 0.3])


def test_a_region_map_gives_each_patch_the_score_of_its_region() -> None:
    found = prediction(ExplanationKind.SCORE, [0.0, 0.0, 0.0])
    regions = Explanation(
        "regions", ExplanationKind.SCORE, torch.tensor([5.0, 7.0]), torch.tensor([1, 0, 1])
    )
    object.__setattr__(found, "explanations", (regions,))
    np.testing.assert_allclose(scaled(found).values, [7, 5, 7])


def test_a_patch_without_a_number_has_no_rank_and_sets_no_limit() -> None:
    found = prediction(ExplanationKind.EVIDENCE, [0.1, float("nan"), -0.4])
    assert scaled(found).limits == (-0.5, 0.5)
    np.testing.assert_allclose(scaled(found, stretch=Stretch.RANKS).values, [100, np.nan, 0])


def test_equal_attention_is_shared_by_those_attended_to_alone() -> None:
    dropped = torch.tensor([0.5, torch.nan, 0.25, 0.25, torch.nan])
    shown = Explanation("attention", ExplanationKind.ATTENTION, dropped).times_uniform()
    expected = torch.tensor([1.5, torch.nan, 0.75, 0.75, torch.nan])
    torch.testing.assert_close(shown, expected, equal_nan=True)


def test_a_patch_shows_the_attention_of_its_region_among_regions() -> None:
    scores, index = torch.tensor([0.8, 0.2]), torch.tensor([0, 1, 1])
    shown = Explanation("attention", ExplanationKind.ATTENTION, scores, index).times_uniform()
    torch.testing.assert_close(shown, torch.tensor([1.6, 0.4, 0.4]))
