"""Criterion: cross-entropy for classes, discrete-time likelihood for survival."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from napari_wsimil.models.losses import criterion, survival, survival_nll


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def literal_nll(logits: list[float], time: int, event: int) -> float:
    """Likelihood of one patient, multiplied bin by bin."""
    likelihood = 1.0
    for t in range(time):
        likelihood *= 1 - sigmoid(logits[t])
    likelihood *= sigmoid(logits[time]) if event else 1 - sigmoid(logits[time])
    return -math.log(likelihood)


@pytest.mark.parametrize("time", range(4))
@pytest.mark.parametrize("event", [0, 1])
def test_survival_is_the_likelihood_multiplied_bin_by_bin(time: int, event: int) -> None:
    logits = [0.3, -1.2, 0.7, 2.0]
    found = survival_nll(torch.tensor(logits), torch.tensor([time, event]))
    assert found.item() == pytest.approx(literal_nll(logits, time, event), rel=1e-5)


def test_a_survival_target_is_told_by_its_shape() -> None:
    logits, target = torch.tensor([0.3, -1.2, 0.7, 2.0]), torch.tensor([2.0, 1.0])
    assert torch.equal(criterion(logits, target), survival_nll(logits, target))


def test_a_class_costs_its_cross_entropy_and_branches_are_averaged() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    target = torch.tensor(2)
    each = torch.stack([F.cross_entropy(row[None], target[None]) for row in logits])
    torch.testing.assert_close(criterion(logits, target), each.mean())
    torch.testing.assert_close(criterion(logits[0], target), each[0])


def test_branches_of_survival_are_averaged_too() -> None:
    logits, target = torch.randn(5, 4), torch.tensor([1.0, 0.0])
    each = torch.stack([survival_nll(row, target) for row in logits])
    torch.testing.assert_close(criterion(logits, target), each.mean())


def test_survival_falls_from_bin_to_bin_by_the_hazards() -> None:
    found = survival(torch.tensor([0.0, 0.0, -20.0]))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.25, 0.25]))


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0])
    assert torch.isfinite(survival_nll(logits, torch.tensor([2.0, 0.0])))


def test_a_bin_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="time bin 3 is none of 0 to 2"):
        criterion(torch.zeros(3), torch.tensor([3.0, 1.0]))
