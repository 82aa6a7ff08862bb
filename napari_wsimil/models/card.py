"""Card: metadata of a trained model, stored with its weights."""

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
    """Metadata of a checkpoint, sufficient to use its weights.

    Attributes
    ----------
    format
        Version of the card's layout.
    model, config
        Name in the registry of models and the constructor arguments.
    encoder, encoder_dim
        Identity of the encoder of its features, and their width D.
    mpp, pixels, overlap
        µm per pixel and side in pixels of a patch as the encoder received it, and the share
        of its side that neighboring patches have in common; None if bags had no places.
    classes
        Names, in the order of the logits.
    survival
        How the logits are read as survival; None for classification.
    record
        Encoding of a patient's record as tokens; None if it uses none.
    readers
        Versions of the readers of the training slides, see `Reading`; empty if unknown.
    notes
        Sentences on deviations from the expected model or data.
    data
        A sentence on the training data.
    synthetic
        True if it was trained on synthetic slides.
    patients, salt
        Pseudonyms of the patients in training and validation, and the salt of these hashes.
        They allow a known patient to be recognized and contain no names, but anyone with a
        guess of an id can test the guess.
    features
        Ranges, statistics and hashes of the training features; None on older cards.
    metrics
        Named results; None where one is undefined; `reasons` then has a sentence.
    reasons
        Why a metric is undefined, by its name.
    parts
        Training, validation and test cases by class, or with and without the event; empty on
        cards that did not store them.
    seed, threads, versions, created
        Settings for repeating the training; `created` is an ISO date given by the caller.
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
        """Replace NaN, as in cards before format 3, by None."""
        for name, value in self.metrics.items():
            if value is not None and math.isnan(value):
                self.metrics[name] = None
                self.reasons.setdefault(name, "not defined: its reason was not stored")
        return self

    @model_validator(mode="after")
    def _agrees_with_config(self) -> Self:
        expected: dict[str, int | str] = {
            "feature_dim": self.encoder_dim,
            "classes": len(self.classes),
        }
        if self.record is not None:
            expected["groups"] = self.record.groups
        for name, value in expected.items():
            if self.config.get(name) != value:
                raise ValueError(
                    f"the card says {name} {value}, its config {self.config.get(name)}"
                )
        if self.survival is not None and self.survival.classes != self.classes:
            raise ValueError("the card's classes differ from those of its survival bins")
        return self

    @property
    def task(self) -> str:
        """Return "classification", "survival" (discrete-time hazards) or "cox"."""
        if self.survival is None:
            return "classification"
        return "cox" if self.survival.loss == "cox" else "survival"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Return the names of the `chances`, in order."""
        return self.classes if self.survival is None else self.survival.outcomes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return warnings to show with every prediction of the model."""
        leaks = () if self.record is None else self.record.clinical.leaks
        reason = "the model was forced to read an input that gives the outcome away"
        leaky = (f"{reason}, {', '.join(leaks)}: it may have learned nothing else",)
        classes = self.untrained
        untrained = (f"the model was trained on no case of class {' or '.join(classes)}",)
        return (*self.notes, *(leaky if leaks else ()), *(untrained if classes else ()))

    @property
    def untrained(self) -> tuple[str, ...]:
        """Return the classes without training cases, as far as known."""
        counts = self.parts.get("training", {}) if self.survival is None else {}
        return tuple(name for name, count in counts.items() if not count)

    def chances(self, logits: Tensor) -> Tensor:
        """Return (..., C) probabilities of `outcomes` from (..., C) logits."""
        if self.survival is None:
            return logits.softmax(dim=-1)
        return self.survival.chances(logits)

    def admits_mpp(self, mpp: float) -> bool:
        """Return whether a µm per pixel matches the training features."""
        if self.features is not None and self.features.mpp is not None:
            return self.features.admits_mpp(mpp)
        return self.mpp is None or abs(mpp / self.mpp - 1) <= MPP_TOLERANCE

    def admits_pixels(self, pixels: int) -> bool:
        """Return whether a patch side in pixels matches training."""
        if self.features is not None and self.features.pixels is not None:
            return self.features.admits_pixels(pixels)
        return self.pixels is None or pixels == self.pixels

    def trained_on(self, patient: str) -> bool:
        """Return whether a patient was used for training or validation."""
        return pseudonym(patient, self.salt) in self.patients


def pseudonym(patient: str, salt: str) -> str:
    """Return a patient's pseudonym under `salt`, 16 hex digits."""
    return hashlib.sha256(f"{salt}\0{patient}".encode()).hexdigest()[:16]
