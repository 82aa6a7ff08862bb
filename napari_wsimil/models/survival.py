"""Survival: what the logits of a model say about time, and what it was made of."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_wsimil.models.cox import log_risk
from napari_wsimil.models.criterion import survival

if TYPE_CHECKING:
    from torch import Tensor


class Survival(BaseModel):
    """How a model's logits are read as survival.

    Attributes
    ----------
    loss
        "discrete" hazards of C time bins, or "cox": two logits whose difference is the
        logarithm of the risk.
    unit
        Unit of time, as stated by whoever trained.
    bins
        Upper ends of the C time bins; a time equal to an end is in the next bin. The last
        is the longest time in training, and longer times belong to its bin. None for Cox.
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
        """Names of the logits: the bin an event falls into, or earlier and later than usual."""
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
        """What `chances` are the probabilities of."""
        if self.loss == "cox":
            return ("later than the median patient", "earlier than the median patient")
        return tuple(f"no event before {end:g} {self.unit}" for end in self.bins)

    def bin_of(self, time: float) -> int:
        """Return the time bin of a time, counted from 0."""
        return bisect_right(self.bins[:-1], time)

    def chances(self, logits: Tensor) -> Tensor:
        """Return the (..., C) probabilities that `outcomes` names.

        Under proportional hazards, an event comes earlier than another patient's with the
        probability sigmoid(difference of the log risks).
        """
        if self.loss == "discrete":
            return survival(logits)
        return (logits - logits.new_tensor([0.0, self.reference])).softmax(dim=-1)

    def risk(self, logits: Tensor) -> Tensor:
        """Return (...) numbers that are larger where the event is expected earlier.

        For discrete hazards Σ (1 - S_t), 0 to C: how many time bins the event is expected
        to take away. For Cox the log hazard ratio to the median training patient.
        """
        if self.loss == "discrete":
            return (1 - survival(logits)).sum(dim=-1)
        return log_risk(logits) - self.reference
