"""Case: the bags of one patient or slide with the target of training."""

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
    """What became of a patient, as survival asks.

    Attributes
    ----------
    time, event
        How long the patient was followed, and whether the event happened at its end.
    bin
        The time bin, counted from 0; None where a loss takes the time itself.
    """

    time: float
    event: bool
    bin: int | None = None


@dataclass(frozen=True)
class Case:
    """One patient, or one slide where each is a case of its own.

    Attributes
    ----------
    patient
        Identity of the patient, or of the slide; a list of cases has each only once.
    bags
        One per slide; any sequence, so that it may load a bag when asked for it.
    target
        The class, counted from 0, or the follow-up.
    of
        Whose slide it is; empty where the case is the patient.
    facts
        Of each bag, where they were computed when the bags were read.
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
        """Return the identity of the patient, also where the case is a slide."""
        return self.of or self.patient

    @property
    def label(self) -> int:
        """Return the class; ValueError where there is a follow-up instead."""
        if isinstance(self.target, FollowUp):
            raise ValueError(f'patient "{self.patient}" has a follow-up, a class was asked for')
        return self.target

    @property
    def answer(self) -> torch.Tensor:
        """Return the target as `criterion` takes it: () class, or (2,) bin or time and event."""
        if not isinstance(self.target, FollowUp):
            return torch.tensor(self.target)
        time = self.target.time if self.target.bin is None else self.target.bin
        return torch.tensor((time, self.target.event), dtype=torch.float32)

    @property
    def joint(self) -> bool:
        """Return whether the loss is of several patients at once, as Cox's is."""
        return isinstance(self.target, FollowUp) and self.target.bin is None
