"""Training case: bags and target of one patient or slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.bag_facts import BagFacts


@dataclass(frozen=True)
class FollowUp:
    """Follow-up of a patient, the target of survival models.

    Attributes
    ----------
    time, event
        Follow-up time, and whether it ended with the event (False: censored).
    bin
        Time bin, counted from 0; None for losses that use the time itself.
    """

    time: float
    event: bool
    bin: int | None = None


@dataclass(frozen=True)
class Case:
    """One patient, or one slide in slide-level studies.

    Attributes
    ----------
    patient
        Id of the patient, or of the slide; unique within a list of cases.
    bags
        One per slide; any sequence, so that bags can be loaded on access.
    target
        Class index, counted from 0, or the follow-up.
    of
        Id of the slide's patient; empty if the case is a patient.
    facts
        Metadata of each bag, if computed when the bags were read.
    """

    patient: str
    bags: Sequence[Bag]
    target: int | FollowUp
    of: str = ""
    facts: tuple[BagFacts, ...] = ()

    def __post_init__(self) -> None:
        if len(self.bags) == 0:
            raise ValueError(f'patient "{self.patient}" has no slide')

    @property
    def person(self) -> str:
        """Return the patient's id, for slides as well."""
        return self.of or self.patient

    @property
    def label(self) -> int:
        """Return the class index.

        Raises
        ------
        ValueError
            If the target is a follow-up.
        """
        if isinstance(self.target, FollowUp):
            raise ValueError(f'patient "{self.patient}" has a follow-up instead of a class')
        return self.target

    @property
    def answer(self) -> torch.Tensor:
        """Return the target as a tensor for `criterion`.

        It is a class index of shape (), or (2,) float32: time bin or time, then event.
        """
        if not isinstance(self.target, FollowUp):
            return torch.tensor(self.target)
        time = self.target.time if self.target.bin is None else self.target.bin
        return torch.tensor((time, self.target.event), dtype=torch.float32)

    @property
    def joint(self) -> bool:
        """Return whether the loss compares several patients, as Cox's does."""
        return isinstance(self.target, FollowUp) and self.target.bin is None
