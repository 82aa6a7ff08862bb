"""Local attention against attention under a dense mask, on ragged tissue."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_wsimil.models.layers import local_attention as module
from napari_wsimil.models.layers.chunked import side_by_side
from napari_wsimil.models.layers.local_attention import local_attention, padded_attention
from napari_wsimil.models.layers.local_plan import LocalPlan, plan_local
from napari_wsimil.synthetic.bags import tissue_cells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    Attention = Callable[[Tensor, Tensor, Tensor, LocalPlan], Tensor]

TOLERANCE = {"atol": 1e-5, "rtol": 0}
both = pytest.mark.parametrize("attention", [local_attention, padded_attention])


def ragged(n: int) -> NDArray[np.int64]:
    return tissue_cells(n, np.random.default_rng(n))


def qkv(n: int, heads: int = 1, width: int = 16, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, heads, width, generator=generator).requires_grad_().unbind(1)


def dense(q: Tensor, k: Tensor, v: Tensor, cells: Tensor, radius: float) -> Tensor:
    near = (cells[:, None] - cells).square().sum(dim=-1) <= radius**2
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near).transpose(0, 1)


def check(attention: Attention, cells: NDArray[np.int64], radius: float, heads: int) -> None:
    plan = plan_local(cells, radius)
    q, k, v = qkv(len(cells), heads)
    expected = dense(q, k, v, torch.from_numpy(cells)[plan.order], radius)
    found = attention(q, k, v, plan)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    seed = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for mine, other in zip(
        torch.autograd.grad(found, (q, k, v), seed),
        torch.autograd.grad(expected, (q, k, v), seed),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, **TOLERANCE)


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


@both
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("n", [1, 2, 7, 60, 400])
def test_it_is_masked_attention_forward_and_backward(
    attention: Attention, n: int, heads: int
) -> None:
    check(attention, ragged(n), 10, heads)


@both
def test_it_is_masked_attention_on_a_large_slide(attention: Attention) -> None:
    check(attention, ragged(3000), 10, heads=2)


@both
@pytest.mark.parametrize("radius", [0, 1, 2.5, 7, 1000])
def test_it_is_masked_attention_at_any_radius(attention: Attention, radius: float) -> None:
    check(attention, ragged(300), radius, heads=1)


@both
def test_several_patches_of_a_cell_are_neighbors(attention: Attention) -> None:
    cells = np.concatenate([ragged(100), ragged(100)[:40], np.zeros((70, 2), dtype=np.int64)])
    check(attention, cells, 3, heads=1)


@both
def test_pieces_of_tissue_far_apart_see_each_other_only_by_radius(attention: Attention) -> None:
    piece = ragged(80)
    corners = np.array([[0, 0], [1000, 0], [0, 1000], [1007, 1009]])
    far = np.concatenate([piece + corner for corner in corners])
    check(attention, far, 10, heads=1)


def test_a_neighbor_at_the_radius_counts_and_one_beyond_does_not() -> None:
    cells = np.array([[0, 0], [6, 8], [7, 8], [10, 0], [11, 0], [0, 10], [0, 11]])
    plan = plan_local(cells, 10)
    near = plan.unsort(plan.near(plan.rows_of(torch.tensor([0])))[0])
    assert near.tolist() == [True, True, False, True, False, True, False]


def test_threads_change_no_bit_forward_or_backward(threads: int) -> None:
    plan = plan_local(ragged(1500), 4)
    assert len(plan.groups) > threads
    q, k, v = qkv(1500, heads=2)

    def run() -> list[Tensor]:
        out = local_attention(q, k, v, plan)
        return [out, *torch.autograd.grad(out.sin().sum(), (q, k, v))]

    first = [run() for _ in range(3)]
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    alone = run()
    assert all(torch.equal(a, b) for each in first for a, b in zip(each, alone, strict=True))


def test_work_runs_in_as_many_threads_as_torch_has_and_gives_them_back(threads: int) -> None:
    barrier = threading.Barrier(threads, timeout=30)  # breaks unless all come at once

    def work(blocks: object) -> None:
        assert torch.get_num_threads() == 1
        barrier.wait()
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        side_by_side(work, [(), (), ()])
    assert torch.get_num_threads() == threads


def test_groups_of_one_parity_have_no_keys_in_common() -> None:
    for radius in (1, 3, 10):
        plan = plan_local(ragged(2000), radius)
        for parity in (0, 1):
            seen: set[int] = set()
            for group in plan.groups[parity::2]:
                keys = {row for block in group for run in block.runs for row in range(*run)}
                assert not keys & seen
                seen |= keys


def test_every_row_is_a_query_once_and_every_pair_within_the_radius_is_computed() -> None:
    plan = plan_local(ragged(700), 5)
    assert [row for b in plan.blocks for row in range(b.start, b.stop)] == list(range(700))
    assert sorted(plan.order.tolist()) == list(range(700))
    for block in plan.blocks:
        keys = {row for run in block.runs for row in range(*run)}
        near = plan.near(torch.arange(block.start, block.stop)).any(dim=0).nonzero()[:, 0]
        assert set(near.tolist()) <= keys


def test_pairs_computed_are_at_most_three_times_those_within_the_radius() -> None:
    plan = plan_local(ragged(3000), 10)
    true = sum(int(plan.near(rows).sum()) for rows in torch.arange(3000).split(500))
    computed = sum((block.stop - block.start) * block.keys for block in plan.blocks)
    assert true <= computed < 3 * true


def test_sorting_there_and_back_changes_nothing() -> None:
    plan = plan_local(ragged(90), 3)
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plan.unsort(plan.sort(x)), x)
    assert torch.equal(plan.sort(x)[plan.rows_of(torch.tensor([5, 80]))], x[[5, 80]])


def test_huge_scores_do_not_overflow() -> None:
    plan = plan_local(ragged(200), 3)
    q, k, v = qkv(200)
    out = local_attention(300 * q, 300 * k, v, plan)
    torch.testing.assert_close(out, dense(300 * q, 300 * k, v, plan.cells, 3), **TOLERANCE)


@both
def test_inference_mode_and_autocast_give_the_same(attention: Attention) -> None:
    plan = plan_local(ragged(200), 3)
    q, k, v = qkv(200)
    expected = attention(q, k, v, plan)
    with torch.inference_mode():
        torch.testing.assert_close(attention(q, k, v, plan), expected)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(q, k, v, plan)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0)


def test_padded_batches_are_as_large_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_local(ragged(400), 4)
    q, k, v = qkv(400)
    expected = local_attention(q, k, v, plan)
    monkeypatch.setattr(module, "BATCH", 2)
    torch.testing.assert_close(padded_attention(q, k, v, plan), expected, **TOLERANCE)


def test_gradients_are_those_of_finite_differences() -> None:
    plan = plan_local(ragged(25), 2)
    x = [t.detach().double().requires_grad_() for t in qkv(25, heads=2, width=4)]
    assert torch.autograd.gradcheck(lambda *qkv: local_attention(*qkv, plan), x)


def test_scores_are_scaled_by_the_root_of_the_width_of_a_head() -> None:
    plan = plan_local(np.array([[0, 0], [1, 0]]), 1)
    q = torch.tensor([2.0, 0, 0, 0]).expand(2, 1, 4)
    v = torch.tensor([[[0.0] * 4], [[1.0] * 4]])
    k = torch.stack([torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]])])
    share = math.e / (1 + math.e)  # of 2·1/√4 against 0
    torch.testing.assert_close(local_attention(q, k, v, plan), torch.full((2, 1, 4), share))


def test_nothing_to_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="0 cells"):
        plan_local(np.empty((0, 2), dtype=np.int64), 10)
    with pytest.raises(ValueError, match="radius -1"):
        plan_local(ragged(5), -1)
