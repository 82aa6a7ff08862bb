"""Criterion: how far logits are from what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_wsimil.models.cox import cox_nll

if TYPE_CHECKING:
    from torch import Tensor


def criterion(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss (), averaged over all axes of `logits` but the last.

    Parameters
    ----------
    logits
        (..., C).
    target
        A class () int64: the cross-entropy. A survival target (2,) float32, the time bin
        and whether the event happened (1) or the patient was censored (0): the negative log
        likelihood of discrete-time hazards (Zadeh and Schmid, IEEE TPAMI 2020), see
        `survival_nll`. Those of several patients at once (B, 2) float32, time and event,
        with logits (B, ..., 2): Cox's partial likelihood, see `cox_nll`.
    """
    if target.ndim == 2:
        return cox_nll(logits, target)
    if target.ndim == 0:
        flat = logits.reshape(-1, logits.shape[-1])
        return F.cross_entropy(flat, target.expand(len(flat)))
    return survival_nll(logits, target).mean()


def survival_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return the (...) negative log likelihood of a time bin under (..., C) hazard logits.

    With hazards h_t = sigmoid(logits_t), an event in bin b costs
    -log h_b - Σ_{t<b} log(1 - h_t), a censoring in bin b costs -Σ_{t≤b} log(1 - h_t).

    Parameters
    ----------
    target
        (2,): the bin b, counted from 0, and 1 for an event or 0 for a censoring.
    """
    time, event = int(target[0]), bool(target[1])
    if not 0 <= time < logits.shape[-1]:
        raise ValueError(f"time bin {time} is none of 0 to {logits.shape[-1] - 1}")
    survived = F.logsigmoid(-logits[..., :time]).sum(dim=-1)
    last = logits[..., time]
    return -(survived + F.logsigmoid(last if event else -last))


def survival(logits: Tensor) -> Tensor:
    """Return the (..., C) probabilities to be without event after each time bin."""
    return torch.exp(F.logsigmoid(-logits).cumsum(dim=-1))
