"""Outcome: what a model is asked of the patients of a cohort, a class or survival."""

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


#: The two kinds of cases of survival: without and with the event.
EVENTS = ("no event", "event")


class Task(StrEnum):
    """What is learned of a patient."""

    CLASSIFICATION = "classification"  # the manifest's label
    SURVIVAL = "survival"  # its time and event, as hazards of time bins
    COX = "cox"  # its time and event, as the logarithm of a risk

    def known_of(self, patient: Patient) -> bool:
        """Return whether the manifest says of a patient what the task asks."""
        known = patient.label if self is Task.CLASSIFICATION else patient.time
        return known is not None

    @property
    def column(self) -> str:
        """What the manifest has of it, for messages."""
        return "label" if self is Task.CLASSIFICATION else "time and event"


@dataclass(frozen=True)
class Outcome:
    """What the logits of a model are of.

    Attributes
    ----------
    classes
        Their names.
    survival
        How they are read as survival; None where they are of classes.
    """

    classes: tuple[str, ...]
    survival: Survival | None = None

    @classmethod
    def of_card(cls, card: Card) -> Outcome:
        """Return what a trained model was asked."""
        return cls(card.classes, card.survival)

    def target(self, patient: Patient) -> int | FollowUp:
        """Return what became of a patient.

        Raises
        ------
        RecordError
            If the patient has no label or one that is no class, or no follow-up.
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
    """Raise ValueError if a manifest has fewer than two classes, or no times or their unit."""
    if task is Task.CLASSIFICATION:
        if len(manifest.classes) < 2:
            found = ", ".join(manifest.classes) or "no label"
            raise ValueError(f"{manifest.path}: training needs two classes, there is {found}")
    elif not any(task.known_of(patient) for patient in manifest.patients):
        raise ValueError(f"{manifest.path}: {task.value} needs time and event, there are none")
    elif not unit:
        raise ValueError(f"{manifest.path}: say the unit of its times, such as months")
    elif manifest.endpoint.unit not in ("", unit):
        raise ValueError(
            f"{manifest.path}: the times are {manifest.endpoint}, not in {unit!r}: "
            f"train with the time unit {manifest.endpoint.unit}"
        )


def lacking_outcome(task: Task, manifest: Manifest) -> str:
    """Return how many cases are left out, and why, in a sentence; empty if none is."""
    left = [case for case in manifest.patients if not task.known_of(case)]
    if not left:
        return ""
    reasons = Counter(case.no_outcome or f"no {task.column}" for case in left)
    if task is Task.CLASSIFICATION:
        reasons = Counter({f"no {task.column}": len(left)})
    words = ", ".join(f"{reason}: {n}" for reason, n in reasons.most_common())
    noun = "slides" if any(case.of for case in manifest.patients) else "patients"
    return f"{len(left)} of {len(manifest.patients)} {noun} are left out ({words})"


def outcome_of(task: Task, manifest: Manifest, train: Sequence[Patient], unit: str) -> Outcome:
    """Return the outcome of a task; time bins are of the training patients.

    Parameters
    ----------
    unit
        Of the manifest's times, which do not state it.

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
