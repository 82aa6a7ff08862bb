"""Exact local attention to all patches within a radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from napari_wsimil.models.layers.chunked import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_wsimil.models.layers.local_plan import Block, LocalPlan

    Work = Callable[[Sequence[Block]], None]

BATCH = 256  # blocks computed together on a GPU


def local_attention(q: Tensor, k: Tensor, v: Tensor, plan: LocalPlan) -> Tensor:
    """Return exact attention of each row to its neighbors.

    (N, heads, d) softmax(q kᵀ / √d) v over the neighbors of the plan, per head. It equals
    attention under a dense mask, in memory of the order of the features. On the CPU
    it starts `torch.get_num_threads()` threads with one torch thread each; meanwhile torch's
    number of threads is 1 in the whole process.

    Parameters
    ----------
    q, k, v
        (N, heads, d), rows in the order of the plan; slices of one tensor are allowed.
    plan
        From `plan_local`, on their device. It defines the neighbors.
    """
    if q.device.type != "cpu":
        return padded_attention(q, k, v, plan)
    out: Tensor = _Local.apply(q, k, v, plan)  # type: ignore[no-untyped-call]
    return out


def padded_attention(q: Tensor, k: Tensor, v: Tensor, plan: LocalPlan) -> Tensor:
    """Return `local_attention`, computed in batches of padded blocks.

    For GPUs, where many small products cost more than some padding. The backward pass
    recomputes each batch.
    """
    parts = zip(*(rows.split(BATCH) for rows in plan.padded), strict=True)
    out = [
        checkpoint(_batch, q, k, v, plan, *rows, use_reentrant=False, preserve_rng_state=False)
        for rows in parts
    ]
    return torch.cat(out)


def _batch(
    q: Tensor, k: Tensor, v: Tensor, plan: LocalPlan, rows: Tensor, keys: Tensor
) -> Tensor:  # rows (B, Q), keys (B, K), -1 where none
    offset = plan.cells[rows][:, :, None] - plan.cells[keys][:, None]  # (B, Q, K, 2)
    near = (offset.square().sum(dim=-1) <= plan.radius**2) & (keys >= 0)[:, None]
    near |= (rows < 0)[:, :, None]  # padding attends to all, to avoid NaN
    queries, others, values = (x.transpose(1, 2) for x in (q[rows], k[keys], v[keys]))
    out = F.scaled_dot_product_attention(queries, others, values, attn_mask=near[:, None])
    return out.transpose(1, 2)[rows >= 0]


class _Local(Function):
    """CPU kernel, block by block; its backward pass recomputes attention."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: LocalPlan) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype)
        side_by_side(_Forward(plan, q, k, v, out), plan.groups)
        ctx.save_for_backward(q, k, v, out)
        ctx.plan = plan
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        tensors = ctx.saved_tensors
        dq, dk, dv = (torch.zeros(grad.shape, dtype=grad.dtype) for _ in range(3))
        work = _Backward(_Forward(ctx.plan, *tensors), grad, dq, dk, dv)
        for parity in (0, 1):
            side_by_side(work, ctx.plan.groups[parity::2])
        return dq, dk, dv, None


class _Forward:
    """Forward pass: writes the output of the queries of blocks."""

    def __init__(self, plan: LocalPlan, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        self.plan = plan
        self.biases = plan.biases
        self.q, self.k, self.v, self.out = (_by_head(x) for x in (q, k, v, out))
        self.scale = q.shape[-1] ** -0.5

    def __call__(self, blocks: Sequence[Block]) -> None:
        buffer = self.buffer()
        for block in blocks:
            a = self.attention(block, buffer)
            _mix(block, a, self.v, self.out[:, block.rows])

    def buffer(self) -> Tensor:
        """Return a buffer for the pairs of any block."""
        return self.q.new_empty(len(self.q) * self.plan.pairs)

    def view(self, block: Block, buffer: Tensor) -> Tensor:
        """Return a block's (heads, queries, keys) view of a buffer."""
        shape = (len(self.q), *self.biases[block].shape)
        return buffer[: shape[0] * shape[1] * shape[2]].view(shape)

    def attention(self, block: Block, buffer: Tensor) -> Tensor:
        """Return a block's (heads, queries, keys) attention, in the buffer."""
        e = self.view(block, buffer)
        e.copy_(self.biases[block])
        q = self.q[:, block.rows]
        for run, columns in block.spans():
            e[..., columns].baddbmm_(q, self.k[:, run].transpose(1, 2), alpha=self.scale)
        return torch.softmax(e, dim=-1, out=e)


class _Backward:
    """Backward pass: adds the gradients from the queries of blocks."""

    def __init__(self, forward: _Forward, grad: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> None:
        self.forward = forward
        self.grad, self.dq, self.dk, self.dv = (_by_head(x) for x in (grad, dq, dk, dv))

    def __call__(self, blocks: Sequence[Block]) -> None:
        buffers = self.forward.buffer(), self.forward.buffer()
        for block in blocks:
            self._block(block, *buffers)

    def _block(self, block: Block, buffer: Tensor, other: Tensor) -> None:
        forward, scale = self.forward, self.forward.scale
        q, grad = forward.q[:, block.rows], self.grad[:, block.rows]
        a = forward.attention(block, buffer)
        ds = forward.view(block, other)
        for run, columns in block.spans():
            ds[..., columns].baddbmm_(grad, forward.v[:, run].transpose(1, 2), beta=0)
            self.dv[:, run].baddbmm_(a[..., columns].transpose(1, 2), grad)
        ds.sub_((grad * forward.out[:, block.rows]).sum(dim=-1, keepdim=True)).mul_(a)
        _mix(block, ds, forward.k, self.dq[:, block.rows], scale)
        for run, columns in block.spans():
            self.dk[:, run].baddbmm_(ds[..., columns].transpose(1, 2), q, alpha=scale)


def _mix(block: Block, weights: Tensor, rows: Tensor, out: Tensor, scale: float = 1.0) -> None:
    """Write scale · Σ weights rows to `out`.

    The rows are those of a block's keys; `out` is (heads, queries, d).
    """
    for number, (run, columns) in enumerate(block.spans()):
        out.baddbmm_(weights[..., columns], rows[:, run], beta=float(number > 0), alpha=scale)


def _by_head(x: Tensor) -> Tensor:
    return x.detach().transpose(0, 1)  # (heads, N, d)
