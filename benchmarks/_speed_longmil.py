"""Speeds of LongMIL's local attention, radius 10 patches, against full attention.

- `longmil_forward`, `longmil_forward_8_heads`: attention of given q, k, v, their rows in the
  order of the plan, as the model keeps them through both local layers.
- `longmil_wall`: the same with one head, its figure the wall time on all threads.
- `longmil_train`, `longmil_train_8_heads`: the same and the gradients to q, k and v; with 8
  heads up to 20,000 patches.
- `longmil_plan`: which patches are computed together; made once per slide for both layers.

The error is against the same attention under a dense mask, of the output alone or, where it
says train, of output and gradients; up to 10,000 patches.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from _speed import WIDTH, Row, full_attention, tissue

from napari_wsimil.models.layers.local_attention import local_attention
from napari_wsimil.models.layers.local_plan import LocalPlan, plan_local
from napari_wsimil.models.layers.positions import lattice_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

RADIUS = 10
CHECKED = 10_000  # patches up to which the error is measured
TRAINED = 20_000  # patches up to which gradients of 8 heads are timed
PIECE = 500  # queries that the dense reference takes at a time


def rows(n: int) -> Iterator[Row]:
    """Yield the rows of a slide of `n` patches."""
    make = partial(_plan, n)
    plan = make()
    for heads, ending in ((1, ""), (8, "_8_heads")):
        qkv = _qkv(n, heads)
        error = _forward_error(qkv, plan) if n <= CHECKED else None
        forward, full = partial(local_attention, *qkv, plan), full_attention(n, heads)
        yield Row(f"longmil_forward{ending}", forward, full, error)
        if heads == 1:
            yield Row("longmil_wall", forward, full, error, clock="wall")
        if heads == 1 or n <= TRAINED:
            error = _train_error(qkv, plan) if n <= CHECKED else None
            full = full_attention(n, heads, backward=True)
            yield Row(f"longmil_train{ending}", partial(_train, qkv, plan), full, error, unit="s")
    yield Row("longmil_plan", make)


def _plan(n: int) -> LocalPlan:
    device = torch.get_default_device()
    plan = plan_local(lattice_cells(tissue(n)), RADIUS, device)
    _ = plan.biases if device.type == "cpu" else plan.padded  # made when first asked for
    return plan


def _qkv(n: int, heads: int) -> tuple[Tensor, ...]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    shape = (n, heads, WIDTH // heads)
    return tuple(torch.randn(shape, generator=generator) for _ in range(3))


def _train(qkv: tuple[Tensor, ...], plan: LocalPlan) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in qkv]
    return torch.autograd.grad(local_attention(*leaves, plan).sum(), leaves)


def _dense(qkv: tuple[Tensor, ...], plan: LocalPlan, some: Tensor) -> Tensor:
    q, k, v = (x.transpose(0, 1) for x in qkv)  # (heads, N, d)
    e = (q[:, some] @ k.mT * q.shape[2] ** -0.5).masked_fill(~plan.near(some), -torch.inf)
    return (e.softmax(dim=2) @ v).transpose(0, 1)


def _forward_error(qkv: tuple[Tensor, ...], plan: LocalPlan) -> float:
    found = local_attention(*qkv, plan)
    pieces = torch.arange(len(found)).split(PIECE)
    return max((found[some] - _dense(qkv, plan, some)).abs().max().item() for some in pieces)


def _train_error(qkv: tuple[Tensor, ...], plan: LocalPlan) -> float:
    leaves = [x.detach().requires_grad_() for x in qkv]
    for some in torch.arange(len(plan)).split(PIECE):
        _dense(tuple(leaves), plan, some).sum().backward()
    found = _train(qkv, plan)
    return max((x.grad - g).abs().max().item() for x, g in zip(leaves, found, strict=True))
