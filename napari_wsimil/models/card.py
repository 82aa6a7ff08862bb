"""Card: what a trained model says about itself."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_wsimil.models.losses import Survival  # noqa: TC001
from napari_wsimil.models.record_encoder import RecordFormat  # noqa: TC001  # pydantic reads these
from napari_wsimil.models.training_features import MPP_TOLERANCE, TrainingFeatures

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 3  # 2: survival and records; 3: readers, notes, features, parts, reasons


class Card(BaseModel):
    """The plain facts stored beside the weights, enough to use them without asking.

    Attributes
    ----------
    format
        Version of the card's layout.
    model, config
        Name in the registry of models and the arguments that make its shape.
    encoder, encoder_dim
        Identity of the encoder whose features it takes, and their width D.
    mpp, pixels, overlap
        µm per pixel and side in pixels at which the encoder saw a patch, and the share of
        its side that neighboring patches have in common; None if bags had no places.
    classes
        Names, in the order of the logits.
    survival
        How the logits are read as survival; None where they are of classes.
    record
        How a patient's record becomes the tokens it takes; None if it reads none.
    readers
        Versions of the readers whose pixels it learned from, see `Reading`; empty if unknown.
    notes
        Sentences on what is otherwise than the model's name or data promise.
    data
        A sentence on what it was trained on.
    synthetic
        True if it was trained on phantoms.
    patients, salt
        Pseudonyms of the patients it was trained or selected on, and what they were
        salted with. They let a known patient be recognized and name nobody, but whoever
        can guess an id can test the guess.
    features
        Ranges, statistics and hashes of the training features; None on older cards.
    metrics
        Named results; None where one is not defined, for which `reasons` has a sentence.
    reasons
        Why a metric is not defined, by its name.
    parts
        Training, validation and test cases by class, or with and without the event; empty of
        models whose card did not keep them.
    seed, threads, versions, created
        What it takes to train it again; `created` is an ISO date given by the caller.
    weights
        SHA-256 of the weights; empty until saved.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    format: int = FORMAT
    model: str
    config: dict[str, int | float | str]
    encoder: str
    encoder_dim: int = Field(ge=1)
    mpp: float | None = Field(default=None, gt=0)
    pixels: int | None = Field(default=None, ge=1)
    overlap: float | None = Field(default=None, ge=0, lt=1)
    classes: tuple[str, ...] = Field(min_length=2)
    survival: Survival | None = None
    record: RecordFormat | None = None
    readers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    data: str
    synthetic: bool
    patients: tuple[str, ...] = ()
    salt: str = ""
    features: TrainingFeatures | None = None
    metrics: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    parts: dict[str, dict[str, int]] = {}
    seed: int
    threads: int = Field(ge=1)
    versions: dict[str, str]
    created: str
    weights: str = ""

    @model_validator(mode="after")
    def _keeps_no_nan(self) -> Self:
        """Make NaN, which cards before format 3 may have, a metric that is not defined."""
        for name, value in self.metrics.items():
            if value is not None and math.isnan(value):
                self.metrics[name] = None
                self.reasons.setdefault(name, "not defined: its reason was not kept")
        return self

    @model_validator(mode="after")
    def _agrees_with_config(self) -> Self:
        said: dict[str, int | str] = {
            "feature_dim": self.encoder_dim,
            "classes": len(self.classes),
        }
        if self.record is not None:
            said["groups"] = self.record.groups
        for name, value in said.items():
            if self.config.get(name) != value:
                raise ValueError(
                    f"the card says {name} {value}, its config {self.config.get(name)}"
                )
        if self.survival is not None and self.survival.classes != self.classes:
            raise ValueError("the card's classes are not those of its survival")
        return self

    @property
    def task(self) -> str:
        """Return "classification", "survival" (discrete-time hazards) or "cox"."""
        if self.survival is None:
            return "classification"
        return "cox" if self.survival.loss == "cox" else "survival"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Return what `chances` are the probabilities of."""
        return self.classes if self.survival is None else self.survival.outcomes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return sentences that whoever uses the model must see, whatever it is asked."""
        leaks = () if self.record is None else self.record.clinical.leaks
        told = "the model was made to read what gives the outcome away"
        leaky = (f"{told}, {', '.join(leaks)}: it may have learned nothing else",)
        unseen = self.untrained
        lacking = (f"the model was trained on no case of class {' or '.join(unseen)}",)
        return (*self.notes, *(leaky if leaks else ()), *(lacking if unseen else ()))

    @property
    def untrained(self) -> tuple[str, ...]:
        """Return the classes of which no case was in training, as far as is known."""
        counts = self.parts.get("training", {}) if self.survival is None else {}
        return tuple(name for name, count in counts.items() if not count)

    def chances(self, logits: Tensor) -> Tensor:
        """Return the (..., C) probabilities that `outcomes` names, of (..., C) logits."""
        if self.survival is None:
            return logits.softmax(dim=-1)
        return self.survival.chances(logits)

    def admits_mpp(self, mpp: float) -> bool:
        """Return whether features of this µm per pixel are like those of training."""
        if self.features is not None and self.features.mpp is not None:
            return self.features.admits_mpp(mpp)
        return self.mpp is None or abs(mpp / self.mpp - 1) <= MPP_TOLERANCE

    def admits_pixels(self, pixels: int) -> bool:
        """Return whether patches of this side in pixels are like those of training."""
        if self.features is not None and self.features.pixels is not None:
            return self.features.admits_pixels(pixels)
        return self.pixels is None or pixels == self.pixels

    def trained_on(self, patient: str) -> bool:
        """Return whether this patient took part in training."""
        return pseudonym(patient, self.salt) in self.patients


def pseudonym(patient: str, salt: str) -> str:
    """Return 16 hex digits that stand for a patient's id under `salt`."""
    return hashlib.sha256(f"{salt}\0{patient}".encode()).hexdigest()[:16]
