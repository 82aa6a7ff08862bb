"""Losses of classification and survival, and survival logits."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


def criterion(logits: Tensor, target: Tensor) -> Tensor:
    """Return the loss of logits for a target.

    It is (), averaged over all axes of `logits` but the last.

    Parameters
    ----------
    logits
        (..., C).
    target
        A class () int64: the cross-entropy. A survival target (2,) float32, the time bin and
        1 for an event or 0 for censoring: the negative log likelihood of discrete-time hazards
        (Zadeh and Schmid, IEEE TPAMI 2020), see `survival_nll`. Several patients' targets
        (B, 2) float32, time and event, with logits (B, ..., 2): Cox's partial likelihood, see
        `cox_nll`.
    """
    if target.ndim == 2:
        return cox_nll(logits, target)
    if target.ndim == 0:
        flat = logits.reshape(-1, logits.shape[-1])
        return F.cross_entropy(flat, target.expand(len(flat)))
    return survival_nll(logits, target).mean()


def survival_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return (...) negative log likelihoods of a time bin.

    The (..., C) logits are those of hazards. With h_t = sigmoid(logits_t), an event in bin b costs
    -log h_b - Σ_{t<b} log(1 - h_t), a censoring in bin b costs -Σ_{t≤b} log(1 - h_t).

    Parameters
    ----------
    target
        (2,): the bin b, counted from 0, and 1 for an event or 0 for a censoring.

    Raises
    ------
    ValueError
        If the bin is none of the logits'.
    """
    time, event = int(target[0]), bool(target[1])
    if not 0 <= time < logits.shape[-1]:
        raise ValueError(f"time bin {time} is none of 0 to {logits.shape[-1] - 1}")
    survived = F.logsigmoid(-logits[..., :time]).sum(dim=-1)
    last = logits[..., time]
    return -(survived + F.logsigmoid(last if event else -last))


def survival(logits: Tensor) -> Tensor:
    """Return probabilities of no event up to each time bin.

    (..., C) of (..., C) hazard logits.
    """
    return torch.exp(F.logsigmoid(-logits).cumsum(dim=-1))


def log_risk(logits: Tensor) -> Tensor:
    """Return log risks: the second of two logits minus the first.

    (...) of (..., 2) logits; ValueError for another number of logits.
    """
    if logits.shape[-1] != 2:
        raise ValueError(f"Cox's loss takes 2 logits of a patient, not {logits.shape[-1]}")
    return logits[..., 1] - logits[..., 0]


def cox_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Return (), Cox's negative log partial likelihood per event.

    -1/E Σ_{i: event} (r_i - log Σ_{j: t_j ≥ t_i} exp r_j) with the log risks r of the patients;
    patients with events at the same time are each at risk for the other's (Breslow). It is 0,
    with gradient 0, for a single patient and for patients without an event.

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


class Survival(BaseModel):
    """Interpretation of a model's logits as survival.

    Attributes
    ----------
    loss
        "discrete" hazards of C time bins, or "cox": two logits with the log risk as their
        difference.
    unit
        Unit of time, as stated at training.
    bins
        Upper ends of the C time bins; a time equal to an end belongs to the next bin. The
        last is the longest time in training, and longer times belong to its bin. None for Cox.
    reference
        Log risk of the median training patient, for Cox.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Literal["discrete", "cox"]
    unit: str = Field(min_length=1)
    bins: tuple[float, ...] = ()
    reference: float = 0.0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the logits: time bins, or later/earlier event."""
        if self.loss == "cox":
            return ("later event", "earlier event")
        first, *inner = self.bins[:-1]
        between = zip(self.bins[:-2], inner, strict=True)
        return (
            f"before {first:g} {self.unit}",
            *(f"{low:g} to {high:g} {self.unit}" for low, high in between),
            f"from {self.bins[-2]:g} {self.unit}",
        )

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the `chances`, in order."""
        if self.loss == "cox":
            return ("later than the median patient", "earlier than the median patient")
        return tuple(f"no event before {end:g} {self.unit}" for end in self.bins)

    def bin_of(self, time: float) -> int:
        """Return the time bin of a time, counted from 0."""
        return bisect_right(self.bins[:-1], time)

    def chances(self, logits: Tensor) -> Tensor:
        """Return the (..., C) probabilities of `outcomes`.

        Under proportional hazards, an event comes earlier than another patient's with the
        probability sigmoid(difference of the log risks).
        """
        if self.loss == "discrete":
            return survival(logits)
        return (logits - logits.new_tensor([0.0, self.reference])).softmax(dim=-1)

    def risk(self, logits: Tensor) -> Tensor:
        """Return (...) risks, larger for an earlier expected event.

        For discrete hazards Σ (1 - S_t), 0 to C: the expected number of time bins lost to the
        event. For Cox the log hazard ratio to the median training patient.
        """
        if self.loss == "discrete":
            return (1 - survival(logits)).sum(dim=-1)
        return log_risk(logits) - self.reference
