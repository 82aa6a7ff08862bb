"""Split of a cohort into training, validation and test set.

The training set fits the weights of a model, the validation set selects the epoch with the
best weights, and the test set measures the result. A fold is one such split: for 5 folds the
patients are divided into 5 groups, stratified by class or event, and fold k tests on group k,
validates on group k + 1 and trains on the rest. All slides of a patient are in the same set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import StratifiedKFold

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.cohort.manifest import Split
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.config import check_run
from napari_wsimil.training.dataset import as_read
from napari_wsimil.training.identity import arranged
from napari_wsimil.training.metrics import LEAST_CASES
from napari_wsimil.training.tasks import EVENTS, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.training.config import RunConfig

#: Number of cases by set of the cohort, and by class or event.
Parts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Fold:
    """Names of training, validation and test cases, disjoint."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_of(config: RunConfig, manifest: Manifest) -> Fold:
    """Return the split of a run.

    With fold rule "slides", each slide's file is read once for its key. Raises ValueError if
    the run does not fit the cohort.
    """
    return ordered_split(config, as_read(config, manifest))[1]


def ordered_split(config: RunConfig, manifest: Manifest) -> tuple[Manifest, Fold]:
    """Return the ordered cohort of a run and its split.

    The order follows the fold rule.
    """
    check_run(config, manifest)
    ordered, keys = arranged(manifest, config.fold_rule, config.task, config.features)
    seed, task = config.fit.seed, config.task
    return ordered, split_manifest(ordered, config.folds, config.fold, seed, task, keys)


def gaps_of(config: RunConfig, manifest: Manifest, fold: Fold) -> tuple[str, ...]:
    """Return notes on classes or events missing in a set."""
    cohort = as_read(config, manifest)
    return gaps(parts_of(fold, cohort, config.task), config.task, unit_of(cohort.patients))


def split_manifest(
    manifest: Manifest,
    count: int = 5,
    fold: int = 0,
    seed: int = 0,
    task: Task = Task.CLASSIFICATION,
    keys: Mapping[str, str] | None = None,
) -> Fold:
    """Return training, validation and test set by names of cases.

    A split in the manifest is used if there is one; otherwise fold number `fold` of `count`,
    stratified by class or event. Patients without an outcome for the task are left out. All
    slides of a patient are in the same set. Folds depend on `keys` of persons, as returned by
    `arranged`, or else on their names.

    Raises
    ------
    RecordError
        If only some of these patients have a split, slides of one patient are in several
        sets, or the training set is empty.
    ValueError
        If there are too few patients for the folds, the fold does not exist, or the training
        patients have one class or no event.
    """
    _check_parts(manifest)
    split = _split(manifest, count, fold, seed, task, keys or {})
    check_training(split, manifest, task)
    return split


def _split(
    manifest: Manifest, count: int, fold: int, seed: int, task: Task, keys: Mapping[str, str]
) -> Fold:
    known = [patient for patient in manifest.patients if task.known_of(patient)]
    splits = {patient.split for patient in known}
    if splits <= {None}:
        if not 0 <= fold < count:
            raise ValueError(f"fold must be 0 to {count - 1}, not {fold}")
        strata = _strata(known, task)
        # `folds` sorts these: by key, and by name if keys are equal
        names = {f"{keys.get(person, '')}\0{person}": person for person in strata}
        targets = {key: strata[person] for key, person in names.items()}
        split = folds(targets, count, seed=seed)[fold]
        parts = (split.train, split.validation, split.test)
        return _cases_of(Fold(*(tuple(names[key] for key in part) for part in parts)), known)
    if None in splits:
        name = next(patient.name for patient in known if patient.split is None)
        raise RecordError(f"{manifest.path}: patient {name!r} has a {task.column} and no split")
    train, validation, test = (tuple(p.name for p in known if p.split is split) for split in Split)
    if not train:
        raise RecordError(f"{manifest.path}: no patient with a {task.column} has the split 'train'")
    return Fold(train, validation, test)


def _cases_of(fold: Fold, patients: Sequence[Patient]) -> Fold:
    """Return a fold of cases from a fold of persons."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for patient in patients:
        names[patient.person].append(patient.name)
    parts = (fold.train, fold.validation, fold.test)
    return Fold(*(tuple(name for person in part for name in names[person]) for part in parts))


def _check_parts(manifest: Manifest) -> None:
    """Raise RecordError if sets share a patient.

    That is, if slides of one patient have different splits.
    """
    parts: defaultdict[str, set[Split]] = defaultdict(set)
    for patient in manifest.patients:
        parts[patient.person] |= {*patient.parts}
    if persons := [person for person, some in parts.items() if len(some) > 1]:
        raise RecordError(
            f"{manifest.path}: {len(persons)} of {len(parts)} patients have slides in more than "
            f"one split, such as {persons[0]!r}. Give all slides of a patient one split"
        )


def _strata(patients: Sequence[Patient], task: Task) -> dict[str, int]:
    """Return the stratum of each person.

    Among several classes of a person it is the rarest one.
    """
    labels: defaultdict[str, set[int]] = defaultdict(set)
    classes = sorted({patient.label or "" for patient in patients})
    for patient in patients:
        happened = int(bool(patient.event))
        is_class = task is Task.CLASSIFICATION
        labels[patient.person].add(classes.index(patient.label or "") if is_class else happened)
    if task is not Task.CLASSIFICATION:
        return {person: max(some) for person, some in labels.items()}
    counts = Counter(label for some in labels.values() for label in some)
    return {
        person: min(some, key=lambda label: (counts[label], label))
        for person, some in labels.items()
    }


def folds(
    targets: Mapping[str, int], count: int = 5, *, validation: bool = True, seed: int = 0
) -> tuple[Fold, ...]:
    """Return `count` folds of patients, stratified by class.

    Each patient is in the test set of exactly one fold.

    Parameters
    ----------
    targets
        The class of each patient.
    count
        Number of folds; each class needs at least as many patients.
    validation
        Whether the next fold's test set is the validation set, which needs at least 3 folds;
        otherwise the validation set is empty.
    seed
        Seed of the shuffle; the order of `targets` has no effect.
    """
    _check_count(targets, count, validation)
    patients = sorted(targets)
    labels = np.array([targets[patient] for patient in patients])
    parts = _fold_numbers(labels, count, seed)
    return tuple(
        _fold(patients, parts, part, (part + 1) % count if validation else -1)
        for part in range(count)
    )


def _fold_numbers(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    parts = np.zeros(len(labels), dtype=np.int64)
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    for part, (_, test) in enumerate(splitter.split(labels, labels)):
        parts[test] = part
    return parts


def _fold(patients: list[str], parts: NDArray[np.int64], test: int, validation: int) -> Fold:
    def members(mask: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(p for p, is_in in zip(patients, mask, strict=True) if is_in)

    return Fold(
        train=members((parts != test) & (parts != validation)),
        validation=members(parts == validation),
        test=members(parts == test),
    )


def _check_count(targets: Mapping[str, int], count: int, validation: bool) -> None:
    least = 3 if validation else 2
    if count < least:
        raise ValueError(f"{count} folds are too few: this split needs at least {least}")
    for label, number in sorted(Counter(targets.values()).items()):
        if number < count:
            raise ValueError(
                f"class {label} has {number} patients, {count} folds need at least {count}"
            )


def parts_of(fold: Fold, manifest: Manifest, task: Task) -> Parts:
    """Return the number of cases by set and kind.

    Kinds are the classes, or the absence and presence of the event.
    """
    kinds = {patient.name: _kind(patient, task) for patient in manifest.patients}
    names = manifest.classes if task is Task.CLASSIFICATION else EVENTS
    parts = {"training": fold.train, "validation": fold.validation, "test": fold.test}
    counts = {part: Counter(kinds[name] for name in members) for part, members in parts.items()}
    return {part: {name: count[name] for name in names} for part, count in counts.items()}


def check_training(fold: Fold, manifest: Manifest, task: Task) -> None:
    """Raise ValueError if training cases lack classes or events."""
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
            f"{name}: {', '.join(f'{numbers[name]} {part}' for part, numbers in parts.items())}"
            for name in counts
            if name not in present
        )
        raise ValueError(
            f"{manifest.path}: all {total} training {unit} are of class {present[0]!r}, but "
            f"training needs two classes ({others}). Change the split or the fold"
        )


def gaps(parts: Parts, task: Task, unit: str = "patients") -> tuple[str, ...]:
    """Return notes on small sets or missing classes and events.

    Parameters
    ----------
    parts
        Number of cases by set and by class or event, as returned by `parts_of`.
    task
        Learning task.
    unit
        Unit of the cases, "patients" or "slides".
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
    listed = " and ".join(missing)
    if part == "training":
        return (f"no training {unit} of class {listed}: the model cannot learn it",)
    if len(present) == 1:
        effect = (
            "the weights are selected by the loss of this class alone"
            if part == "validation"
            else "AUC, balanced accuracy and macro-F1 are not defined"
        )
        total = sum(counts.values())
        return (f"all {total} {part} {unit} are of class {present[0]}, none of {listed}: {effect}",)
    return (f"no {part} {unit} of class {listed}: scores are means over the other classes",)


def _event_gaps(part: str, counts: Mapping[str, int], unit: str) -> Sequence[str]:
    total = sum(counts.values())
    if not total or counts[EVENTS[1]]:
        return ()
    return (f"no event among the {total} {part} {unit}: the c-index is not defined",)


def _kind(patient: Patient, task: Task) -> str:
    if task is Task.CLASSIFICATION:
        return patient.label or ""
    return EVENTS[bool(patient.event)]
