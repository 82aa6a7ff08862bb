"""Cox: the partial likelihood of the order in which events come (Cox, JRSS B 1972)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def log_risk(logits: Tensor) -> Tensor:
    """Return the (...) log risk of (..., 2) logits: how much the second is above the first."""
    if logits.shape[-1] != 2:
        raise ValueError(f"Cox's loss takes 2 logits of a patient, not {logits.shape[-1]}")
    return logits[..., 1] - logits[..., 0]


def cox_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return (), the negative log partial likelihood of patients, averaged over their events.

    -1/E Σ_{i: event} (r_i - log Σ_{j: t_j ≥ t_i} exp r_j) with the log risks r; patients
    who have their event at the same time are each at risk for the other's (Breslow). It is
    0, with gradient 0, for a single patient, and where there is no event.

    Parameters
    ----------
    logits
        (B, ..., 2); the mean is taken over the axes between.
    target
        (B, 2): time, and 1 for an event or 0 for a censoring.
    """
    time, event = target[:, 0], target[:, 1] > 0
    r = log_risk(logits).unsqueeze(-1).flatten(1)  # (B, K)
    later = time[event, None] <= time  # (E, B)
    among = r.expand(len(later), *r.shape).masked_fill(~later[..., None], -torch.inf)
    terms = among.logsumexp(dim=1) - r[event]  # (E, K)
    return terms.sum() / max(1, terms.numel())
