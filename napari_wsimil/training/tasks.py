"""Learning tasks (classification or survival) and their outcomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.features.case import FollowUp
from napari_wsimil.models.losses import Survival
from napari_wsimil.training.survival_metrics import time_bins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.models.card import Card


#: Names of survival cases without and with the event.
EVENTS = ("no event", "event")


class Task(StrEnum):
    """Learning task: classification or survival."""

    CLASSIFICATION = "classification"  # from the manifest's label
    SURVIVAL = "survival"  # from time and event, as hazards of time bins
    COX = "cox"  # from time and event, as a log risk

    def known_of(self, patient: Patient) -> bool:
        """Return whether the manifest has the outcome of a patient."""
        known = patient.label if self is Task.CLASSIFICATION else patient.time
        return known is not None

    @property
    def column(self) -> str:
        """Columns of the outcome in the manifest, for messages."""
        return "label" if self is Task.CLASSIFICATION else "time and event"


@dataclass(frozen=True)
class Outcome:
    """Meaning of a model's logits: classes or survival.

    Attributes
    ----------
    classes
        Names of the logits.
    survival
        Interpretation of the logits as survival; None for classes.
    """

    classes: tuple[str, ...]
    survival: Survival | None = None

    @classmethod
    def of_card(cls, card: Card) -> Outcome:
        """Return the outcome of a trained model."""
        return cls(card.classes, card.survival)

    def target(self, patient: Patient) -> int | FollowUp:
        """Return the class or follow-up of a patient.

        Raises
        ------
        RecordError
            If the label is missing or not one of the classes, or there is no follow-up.
        """
        if self.survival is None:
            return self._class(patient)
        if patient.time is None or patient.event is None:
            raise RecordError(f"patient {patient.name!r} has no time and event")
        discrete = self.survival.loss == "discrete"
        time_bin = self.survival.bin_of(patient.time) if discrete else None
        return FollowUp(patient.time, patient.event, time_bin)

    def _class(self, patient: Patient) -> int:
        if patient.label not in self.classes:
            raise RecordError(
                f"patient {patient.name!r} has the label {patient.label!r}, "
                f"which is none of {', '.join(self.classes)}"
            )
        return self.classes.index(patient.label or "")


def check_task(task: Task, manifest: Manifest, unit: str) -> None:
    """Raise ValueError if a manifest does not fit a task.

    Classification needs two classes; survival needs times, events and the unit of time.
    """
    if task is Task.CLASSIFICATION:
        if len(manifest.classes) < 2:
            classes = ", ".join(manifest.classes) or "no label"
            raise ValueError(f"{manifest.path}: training needs two classes, there is {classes}")
    elif not any(task.known_of(patient) for patient in manifest.patients):
        raise ValueError(f"{manifest.path}: {task.value} needs time and event, there are none")
    elif not unit:
        raise ValueError(f"{manifest.path}: give the unit of its times, such as months")
    elif manifest.endpoint.unit not in ("", unit):
        raise ValueError(
            f"{manifest.path}: the times are {manifest.endpoint}, not in {unit!r}: "
            f"train with the time unit {manifest.endpoint.unit}"
        )


def lacking_outcome(task: Task, manifest: Manifest) -> str:
    """Return a sentence on cases without outcome, if any."""
    omitted = [case for case in manifest.patients if not task.known_of(case)]
    if not omitted:
        return ""
    reasons = Counter(case.no_outcome or f"no {task.column}" for case in omitted)
    if task is Task.CLASSIFICATION:
        reasons = Counter({f"no {task.column}": len(omitted)})
    words = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common())
    noun = "slides" if any(case.of for case in manifest.patients) else "patients"
    return f"{len(omitted)} of {len(manifest.patients)} {noun} are left out ({words})"


def outcome_of(task: Task, manifest: Manifest, train: Sequence[Patient], unit: str) -> Outcome:
    """Return the outcome of a task.

    Time bins are computed from the training patients.

    Parameters
    ----------
    unit
        Unit of the manifest's times, which do not state it.

    Raises
    ------
    ValueError
        If there are too few events for the time bins.
    """
    if task is Task.CLASSIFICATION:
        return Outcome(manifest.classes)
    if task is Task.COX:
        survival = Survival(loss="cox", unit=unit)
    else:
        survival = Survival(loss="discrete", unit=unit, bins=time_bins(train))
    return Outcome(survival.classes, survival)
