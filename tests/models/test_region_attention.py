"""Attention to chosen regions against dense masked attention and against plain loops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsimil.models.layers import region_attention
from napari_wsimil.models.layers.region_attention import attend, choose, mean_scores
from napari_wsimil.models.layers.region_received import received
from napari_wsimil.models.layers.regions import Regions, partition
from napari_wsimil.synthetic.bags import planted_grid, tissue_cells

H, DIM = 2, 8


class Inputs(NamedTuple):
    """A slide sorted by region, and which regions its patches chose."""

    q: Tensor
    k: Tensor
    v: Tensor
    regions: Regions
    chosen: Tensor
    scores: Tensor

    def leaves(self) -> tuple[Tensor, ...]:
        return self.q, self.k, self.v, self.scores

    def fast(self) -> Tensor:
        return attend(self.q, self.k, self.v, self.regions.sizes, self.chosen, self.scores)


def inputs(n: int, top: int, size: int = 16, loud: float = 1.0) -> Inputs:
    torch.manual_seed(n)
    regions = partition(planted_grid(tissue_cells(n, np.random.default_rng(n))), size)
    q, k, v = torch.randn(3, n, H, DIM)
    top = min(top, len(regions))
    scores, chosen = torch.rand(n, len(regions)).topk(top, dim=1)
    one = Inputs(loud * q, k, v, regions, chosen, scores)
    for leaf in one.leaves():
        leaf.requires_grad_()
    return one


def logits(one: Inputs) -> Tensor:
    """Return (H, N, N) masked logits, with the term that is zero."""
    there = torch.zeros(len(one.q), len(one.regions), dtype=torch.bool)
    there.scatter_(1, one.chosen, 1)
    zero = one.scores - one.scores.detach()
    zero = torch.zeros(there.shape).scatter(1, one.chosen, zero)
    index = one.regions.sorted_index
    e = torch.einsum("nhd,mhd->hnm", one.q, one.k) / DIM**0.5
    return (e + zero[:, index]).masked_fill(~there[:, index], -torch.inf)


def dense(one: Inputs) -> Tensor:
    return torch.einsum("hnm,mhd->nhd", logits(one).softmax(dim=2), one.v)


def gradients(one: Inputs, o: Tensor) -> tuple[Tensor, ...]:
    weights = torch.randn(o.shape, generator=torch.Generator().manual_seed(0))
    return torch.autograd.grad((o * weights).sum(), one.leaves())


def close(ours: Tensor, theirs: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize(("n", "top"), [(1, 5), (2, 1), (37, 3), (600, 1), (600, 5), (3000, 5)])
def test_attention_and_its_gradients_are_those_of_dense_masked_attention(n: int, top: int) -> None:
    one = inputs(n, top)
    ours, theirs = one.fast(), dense(one)
    close(ours, theirs)
    for mine, reference in zip(gradients(one, ours), gradients(one, theirs), strict=True):
        close(mine, reference)


def test_all_regions_chosen_is_full_attention() -> None:
    one = inputs(300, 1000)
    q, k, v = (x.transpose(0, 1) for x in one.leaves()[:3])
    assert one.chosen.shape[1] == len(one.regions) > 5
    close(one.fast(), F.scaled_dot_product_attention(q, k, v).transpose(0, 1))


@pytest.mark.parametrize("far", [-1, 1])
def test_logits_far_from_zero_lose_nothing(far: int) -> None:
    one = inputs(200, 3, loud=5)
    with torch.no_grad():
        one.q[:, :, 0] = 400  # times ±1, over √8: all logits near ±141
        one.k[:, :, 0] = far
    ours, theirs = one.fast(), dense(one)
    assert (logits(one).amax(dim=2) * far > 90).all()
    close(ours, theirs, 10)
    for mine, reference in zip(gradients(one, ours), gradients(one, theirs), strict=True):
        close(mine, reference, 10 * reference.abs().max().item())


def test_a_region_that_all_choose_is_attended_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    one = inputs(300, 2)
    hub = int(one.regions.sorted_index[150])
    with torch.no_grad():
        one.chosen[:, 0] = hub
        one.chosen[one.chosen[:, 1] == hub, 1] = 0
    monkeypatch.setattr(region_attention, "LOGITS", 500)
    monkeypatch.setattr(region_attention, "ROWS", 7)
    ours, theirs = one.fast(), dense(one)
    close(ours, theirs)
    for mine, reference in zip(gradients(one, ours), gradients(one, theirs), strict=True):
        close(mine, reference)


def test_queries_may_be_others_than_the_patches() -> None:
    one = inputs(200, 3)
    few = torch.tensor([150, 3, 77])
    some = one._replace(q=one.q[few], chosen=one.chosen[few], scores=one.scores[few])
    close(some.fast(), one.fast()[few])


def test_scores_have_a_gradient_but_no_say_in_the_value() -> None:
    one = inputs(300, 3)
    others = one._replace(scores=torch.randn_like(one.scores))
    assert torch.equal(one.fast(), others.fast())
    slope = gradients(one, one.fast())[3]
    assert slope.isfinite().all()
    assert (slope != 0).all()


def test_half_precision_is_computed_in_full_and_slopes_come_back_in_it() -> None:
    one = inputs(100, 3)
    half = one._replace(q=one.q.bfloat16(), k=one.k.bfloat16(), v=one.v.bfloat16())
    full = half._replace(q=half.q.float(), k=half.k.float(), v=half.v.float())
    assert torch.equal(half.fast(), full.fast())
    slopes = torch.autograd.grad(half.fast().sum(), [half.q, half.k, half.v])
    assert {slope.dtype for slope in slopes} == {torch.bfloat16}


def test_received_is_the_mean_of_attention_over_queries_and_heads() -> None:
    one = inputs(300, 2, loud=5)
    few = torch.tensor([150, 3, 77])
    a = received(one.q[few], one.k, one.regions.sizes, one.chosen[few])
    expected = logits(one)[:, few].softmax(dim=2).mean(dim=(0, 1))
    close(a, expected)
    assert torch.equal(a == 0, expected == 0)


def test_a_score_is_the_larger_product_with_either_bound_whatever_its_sign() -> None:
    torch.manual_seed(0)
    q, low, high = torch.randn(20, 4), torch.randn(9, 4), torch.randn(9, 4)
    scores, chosen = choose(q, low, high, 3)
    mean = np.zeros(9)
    for n in range(20):
        by_hand = [max(abs(float(q[n] @ low[m])), abs(float(q[n] @ high[m]))) for m in range(9)]
        best = np.argsort(by_hand)[::-1][:3]
        assert chosen[n].tolist() == best.tolist()
        np.testing.assert_allclose(scores[n], np.array(by_hand)[best], rtol=1e-5)
        mean += np.array(by_hand) / 20
    np.testing.assert_allclose(mean_scores(q, low, high), mean, rtol=1e-5)


def test_choosing_in_pieces_has_the_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    leaves = [torch.randn(n, 4, requires_grad=True) for n in (50, 9, 9)]
    q, low, high = leaves
    weights = torch.randn(50, 3)
    s = torch.maximum((q @ low.T).abs(), (q @ high.T).abs())
    reference = torch.autograd.grad((s.topk(3).values * weights).sum(), leaves)
    monkeypatch.setattr(region_attention, "CHOICES", 70)
    scores, chosen = choose(q, low, high, 3)
    assert torch.equal(chosen, s.topk(3).indices)
    ours = torch.autograd.grad((scores * weights).sum(), leaves)
    for mine, theirs in zip(ours, reference, strict=True):
        close(mine, theirs)
