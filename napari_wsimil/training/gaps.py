"""Gaps: classes and events that are missing in a part of a cohort, and the consequences."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.metrics import LEAST_CASES
from napari_wsimil.training.tasks import EVENTS, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.training.splits import Fold

#: Cases by part of the cohort, and by class or event.
Parts = dict[str, dict[str, int]]


def parts_of(fold: Fold, manifest: Manifest, task: Task) -> Parts:
    """Return how many cases of each class, or with and without the event, a part has."""
    kinds = {patient.name: _kind(patient, task) for patient in manifest.patients}
    names = manifest.classes if task is Task.CLASSIFICATION else EVENTS
    parts = {"training": fold.train, "validation": fold.validation, "test": fold.test}
    counts = {part: Counter(kinds[name] for name in members) for part, members in parts.items()}
    return {part: {name: count[name] for name in names} for part, count in counts.items()}


def check_training(fold: Fold, manifest: Manifest, task: Task) -> None:
    """Raise ValueError if the training cases are of one class, or without any event."""
    parts, unit = parts_of(fold, manifest, task), unit_of(manifest.patients)
    counts = parts["training"]
    total = sum(counts.values())
    if task is not Task.CLASSIFICATION:
        if not counts[EVENTS[1]]:
            raise ValueError(
                f"{manifest.path}: no event among the {total} training {unit}: {task.value} is "
                "learned from events. Change the split or the fold"
            )
        return
    present = [name for name, count in counts.items() if count]
    if len(present) < 2:
        others = ", ".join(
            f"{name}: {', '.join(f'{part[name]} {of}' for of, part in parts.items())}"
            for name in counts
            if name not in present
        )
        raise ValueError(
            f"{manifest.path}: all {total} training {unit} are of class {present[0]!r}, and "
            f"training needs two classes ({others}). Change the split or the fold"
        )


def gaps(parts: Parts, task: Task, unit: str = "patients") -> tuple[str, ...]:
    """Return notes on parts that lack a class or are small, for readers of results.

    Parameters
    ----------
    parts
        Cases by part and kind, as `parts_of` returns.
    task
        What is learned.
    unit
        What is counted: "patients" or "slides".
    """
    of_part = _class_gaps if task is Task.CLASSIFICATION else _event_gaps
    sentences = [s for part, counts in parts.items() for s in of_part(part, counts, unit)]
    if "validation" in parts and not any(parts["validation"].values()):
        sentences.append(f"no validation {unit}: the weights of the last epoch are kept")
    test = sum(parts.get("test", {}).values())
    if 0 < test < LEAST_CASES:
        sentences.append(f"{test} test {unit}: no intervals below {LEAST_CASES}")
    return tuple(sentences)


def _class_gaps(part: str, counts: Mapping[str, int], unit: str) -> Sequence[str]:
    present = [name for name, count in counts.items() if count]
    missing = [name for name in counts if name not in present]
    if not present or not missing:
        return ()
    named = " and ".join(missing)
    if part == "training":
        return (f"no training {unit} of class {named}: the model cannot learn it",)
    if len(present) == 1:
        follows = (
            "the weights are chosen by the loss of this class alone"
            if part == "validation"
            else "AUC, balanced accuracy and macro-F1 are not defined"
        )
        total = sum(counts.values())
        return (f"all {total} {part} {unit} are of class {present[0]}, none of {named}: {follows}",)
    return (f"no {part} {unit} of class {named}: scores are means over the other classes",)


def _event_gaps(part: str, counts: Mapping[str, int], unit: str) -> Sequence[str]:
    total = sum(counts.values())
    if not total or counts[EVENTS[1]]:
        return ()
    return (f"no event among the {total} {part} {unit}: the c-index is not defined",)


def _kind(patient: Patient, task: Task) -> str:
    if task is Task.CLASSIFICATION:
        return patient.label or ""
    return EVENTS[bool(patient.event)]
