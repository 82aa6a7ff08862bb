"""Settings: how a model is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict


@dataclass(frozen=True)
class FitConfig:
    """How to train; the defaults suit some tens to hundreds of slides.

    Attributes
    ----------
    epochs
        Passes over the training cases.
    lr, weight_decay
        Of AdamW.
    schedule
        "one-cycle" climbs for a tenth of the steps and then falls to 0 as a cosine;
        "cosine" falls from the start.
    accumulate
        Cases whose gradients are averaged before a step; Cox's loss compares them.
    clip
        Largest norm of the gradient.
    patience
        Epochs without a better validation loss after which training stops; None never.
    drop
        Share of a slide's patches left out of each pass, drawn anew each time.
    patches
        Most patches of a case in one pass, shared by its slides. It bounds the time and
        memory of a step; evaluation always sees whole slides.
    noise
        Standard deviation of the noise added to standardized features, patch by patch; the
        stored finer features of a patch are moved together.
    shift
        Standard deviation of a shift that all patches of a slide have in common, drawn for
        each standardized feature and each pass.
    record_noise
        Standard deviation of the noise added to every channel of a clinical record's tokens:
        standardized numbers, but also flags, one-hot categories and indicators of what is
        missing.
    standardize
        Whether to measure the features' mean and scale on the training cases first; False
        to go on from a model that has them.
    seed
        Of order, drawing, noise and masks; the first weights are the caller's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    epochs: int = 40
    lr: float = 3e-3
    weight_decay: float = 1e-2
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    accumulate: int = 4
    clip: float = 5.0
    patience: int | None = None
    drop: float = 0.5
    patches: int = 4096
    noise: float = 0.5
    shift: float = 0.0
    record_noise: float = 0.0
    standardize: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "patches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "noise", "shift", "record_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, not {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must be in [0, 1), not {self.drop}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, not {self.patience}")
        if self.schedule not in ("one-cycle", "cosine"):
            raise ValueError(f'schedule is "one-cycle" or "cosine", not "{self.schedule}"')
