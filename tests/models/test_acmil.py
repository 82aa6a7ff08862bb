"""ACMIL against its equations, written as plain loops."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.abmil import ABMIL
from napari_wsimil.models.acmil import ACMIL

if TYPE_CHECKING:
    from napari_wsimil.models.base import MILOutput

N, D, C, M = 12, 5, 3, 4


@pytest.fixture
def model() -> ACMIL:
    torch.manual_seed(0)
    model = ACMIL(feature_dim=D, classes=C, width=7, attention_dim=6, branches=M)
    model.head.bias.data.uniform_()
    return model


@pytest.fixture
def bag() -> Bag:
    return Bag(torch.randn(N, D, generator=torch.Generator().manual_seed(1)))


def numbers(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def embedded(w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.array([np.maximum(w["embedding.weight"] @ row, 0) for row in x])


def attention_by_hand(w: dict[str, np.ndarray], h: np.ndarray) -> np.ndarray:
    a = np.empty((M, len(h)))
    for n, h_n in enumerate(h):
        v = np.tanh(w["attention.tanh.weight"] @ h_n + w["attention.tanh.bias"])
        u = 1 / (1 + np.exp(-(w["attention.gate.weight"] @ h_n + w["attention.gate.bias"])))
        for m in range(M):
            row = w["attention.score.weight"][m]
            a[m, n] = np.exp(row @ (v * u) + w["attention.score.bias"][m])
    return a / a.sum(axis=1, keepdims=True)


def branch_attention(output: MILOutput) -> np.ndarray:
    maps = [m.scores for m in output.explanations if m.name.startswith("branch")]
    return torch.stack(maps).double().numpy()


def cross_entropy(logits: np.ndarray, target: int) -> float:
    return float(np.log(np.exp(logits).sum()) - logits[target])


def loss_by_hand(
    w: dict[str, np.ndarray], h: np.ndarray, a: np.ndarray, target: int
) -> list[float]:
    slide = w["head.weight"] @ (a.mean(axis=0) @ h) + w["head.bias"]
    branches = [
        w[f"branch_heads.{m}.weight"] @ (a[m] @ h) + w[f"branch_heads.{m}.bias"] for m in range(M)
    ]
    cosines = [
        a[i] @ a[j] / np.sqrt((a[i] @ a[i]) * (a[j] @ a[j])) for i, j in combinations(range(M), 2)
    ]
    return [
        cross_entropy(slide, target),
        float(np.mean([cross_entropy(logits, target) for logits in branches])),
        float(np.mean(cosines)),
    ]


def test_forward_is_the_equations(model: ACMIL, bag: Bag) -> None:
    w = numbers(model)
    h = embedded(w, bag.features.double().numpy())
    a = attention_by_hand(w, h)
    output = model.eval()(bag)
    np.testing.assert_allclose(branch_attention(output), a, rtol=1e-5)
    np.testing.assert_allclose(output.explanations[0].scores, a.mean(axis=0), rtol=1e-5)
    expected = w["head.weight"] @ (a.mean(axis=0) @ h) + w["head.bias"]
    np.testing.assert_allclose(output.logits.detach(), expected, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_loss_is_the_equations_on_the_attention_after_masking(
    model: ACMIL, bag: Bag, training: bool
) -> None:
    w = numbers(model)
    output = model.train(training)(bag)
    h = embedded(w, bag.features.double().numpy())
    expected = loss_by_hand(w, h, branch_attention(output), target=2)
    terms = model.loss(output, torch.tensor(2))
    assert list(terms) == ["class", "branches", "diversity"]
    np.testing.assert_allclose([t.item() for t in terms.values()], expected, rtol=1e-5)


def test_the_mean_attention_comes_first_then_the_branches_from_one(model: ACMIL, bag: Bag) -> None:
    names = [m.name for m in model.eval()(bag).explanations]
    assert names[: M + 2] == [
        "attention",
        "branch 1",
        "branch 2",
        "branch 3",
        "branch 4",
        "evidence: 0",
    ]


@pytest.mark.parametrize(("patches", "masked"), [(1, 0), (2, 1), (5, 3), (10, 6), (12, 6)])
def test_training_masks_a_fixed_number_of_each_branch_s_top_patches(
    model: ACMIL, patches: int, masked: int
) -> None:
    bag = Bag(torch.randn(patches, D, generator=torch.Generator().manual_seed(1)))
    whole = branch_attention(model.eval()(bag))
    left = branch_attention(model.train()(bag))
    assert ((left == 0).sum(axis=1) == masked).all()
    top = np.argsort(-whole, axis=1)[:, :10]
    for m in range(M):
        assert set(np.flatnonzero(left[m] == 0)) <= set(top[m])


def test_which_top_patches_are_masked_differs_by_branch_and_by_draw(model: ACMIL) -> None:
    bag = Bag(torch.randn(1, D).repeat(N, 1) + 1e-3 * torch.randn(N, D))
    masks = [branch_attention(model.train()(bag)) == 0 for _ in range(5)]
    assert any((masks[0] != mask).any() for mask in masks[1:])
    assert any((mask[0] != mask[1]).any() for mask in masks)


def test_what_is_not_masked_shares_the_attention_as_before(model: ACMIL, bag: Bag) -> None:
    whole = branch_attention(model.eval()(bag))
    left = branch_attention(model.train()(bag))
    kept = left > 0
    expected = np.where(kept, whole, 0)
    np.testing.assert_allclose(left, expected / expected.sum(axis=1, keepdims=True), rtol=1e-5)


def test_bernoulli_masking_has_the_same_mean_and_another_number_each_time(bag: Bag) -> None:
    torch.manual_seed(0)
    model = ACMIL(feature_dim=D, classes=C, branches=M, mask_rate=0.3, stkim="bernoulli")
    counts = np.array([(branch_attention(model(bag)) == 0).sum(axis=1) for _ in range(200)])
    assert abs(counts.mean() - 3) < 0.2
    assert counts.std() > 1


def test_one_branch_without_masking_is_gated_abmil(bag: Bag) -> None:
    torch.manual_seed(0)
    one = ACMIL(feature_dim=D, classes=C, branches=1, masked=0)
    abmil = ABMIL(feature_dim=D, classes=C)
    abmil.load_state_dict(one.state_dict() | {"embedding.bias": torch.zeros(abmil.width)})
    target = torch.tensor(1)
    ours, theirs = one.train()(bag), abmil.train()(bag)
    assert torch.equal(ours.logits, theirs.logits)
    assert [m.name for m in ours.explanations] == [m.name for m in theirs.explanations]
    assert one.loss(ours, target) == abmil.loss(theirs, target)


@pytest.mark.parametrize(
    "wrong", [{"branches": 0}, {"masked": -1}, {"mask_rate": 1.0}, {"stkim": "never"}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ACMIL(feature_dim=D, classes=C, **wrong)
