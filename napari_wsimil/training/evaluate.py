"""Evaluation of a trained model on a cohort."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.bag import reading_caveats
from napari_wsimil.features.case import FollowUp
from napari_wsimil.features.encoders.base import require_encoder
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.dataset import read_cases
from napari_wsimil.training.evaluation import bounds, evaluate
from napari_wsimil.training.feature_check import compare_features, known_persons, slide_features
from napari_wsimil.training.missingness import telling
from napari_wsimil.training.splits import gaps
from napari_wsimil.training.tasks import EVENTS, Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.record_encoder import RecordFormat
    from napari_wsimil.progress import Work
    from napari_wsimil.training.bag_files import Closer
    from napari_wsimil.training.evaluation import Scores
    from napari_wsimil.training.metrics import Interval


@dataclass(frozen=True)
class Assessment:
    """Metrics and predictions of a model on a cohort.

    Attributes
    ----------
    metrics
        "value" and bounds ("low", "high") of the 95 % bootstrap interval, by metric; an
        undefined number is None, with a "reason".
    patients
        Probability of each class, or of survival beyond each time bin, by name of the case (a
        patient or a slide) and of the class or bin.
    warnings
        Warnings on the validity of the metrics, each once.
    persons, unit
        Number of patients, and the unit of the cases, "patients" or "slides".
    cases
        The evaluated cases, in order.
    risks
        Risk by case for survival, higher for an earlier event; empty for classes.
    failed
        Reason by name for cases without prediction: unreadable features.
    """

    metrics: dict[str, dict[str, float | str | None]]
    patients: dict[str, dict[str, float]]
    warnings: tuple[str, ...]
    persons: int
    unit: str
    cases: Sequence[Case]
    risks: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)


def assess(
    model: MILModel,
    card: Card,
    manifest: Manifest,
    folder: Path | str | None = None,
    split: str | None = None,
    draws: int = 1000,
    closer: Closer | None = None,
    mixed: bool = False,
) -> Work[Assessment]:
    """Evaluate a model on a cohort; yield after every patient.

    Cases with unreadable features are left out and listed. Without a split, patients with
    features used in training under another name are left out too.

    Parameters
    ----------
    folder
        Folder of features that have no path in the manifest.
    split
        Name of the evaluated split; None for all patients with a label (or time and event)
        that were neither in the training nor in the validation set.
    draws
        Number of bootstrap draws of patients.
    closer
        Adds sub-patch features to the bag of a slide, for models that need them.
    mixed
        Whether features of other µm per pixel or patch sizes than the card's are accepted.

    Raises
    ------
    ValueError
        If no case is left, a label is not a class of the model, features are of another
        encoder or scale, or the model reads records and the cohort's schema differs.
    """
    folder = None if folder is None else Path(folder)
    patients = chosen_patients(card, manifest, split)
    warnings = card.notes + _record_warnings(card.record, manifest, patients)
    outcome = Outcome.of_card(card)
    unread: dict[str, str] = {}
    cases = yield from read_cases(patients, outcome, folder, card.record, closer, unread)
    if not cases:
        raise ValueError(f"no features can be read: {'; '.join(unread.values())}")
    cases, remarks = _compared(card, patients, cases, mixed, leave_out=split is None)
    warnings += (*remarks, *_warnings(card, cases))
    if card.record is not None:
        once = {(case.person, case.target): case for case in cases}
        warnings += telling(card.record.clinical.groups, tuple(once.values()))
    scores = yield from evaluate(model, cases, "patients")
    logits = scores.logits.double()
    name = split or "evaluated"
    metrics = bounds(scores, draws, classes=card.classes, of=name)
    warnings += _missing_kinds(card, cases, name)
    return Assessment(
        metrics={name: _plain(interval) for name, interval in metrics.items()},
        patients={
            name: dict(zip(card.outcomes, row, strict=True))
            for name, row in zip(scores.patients, card.chances(logits).tolist(), strict=True)
        },
        warnings=warnings,
        persons=len({case.person for case in cases}),
        unit=unit_of(cases),
        cases=cases,
        risks=_risks(card, scores),
        failed=unread,
    )


def _plain(interval: Interval) -> dict[str, float | str | None]:
    """Return a metric as a dictionary for JSON.

    Undefined numbers are None, with a reason.
    """
    plain: dict[str, float | str | None] = {
        "value": interval.value if interval.is_defined else None,
        "low": interval.low if interval.has_bounds else None,
        "high": interval.high if interval.has_bounds else None,
    }
    return plain | ({"reason": interval.reason} if interval.reason else {})


def _missing_kinds(card: Card, cases: Sequence[Case], split: str) -> tuple[str, ...]:
    """Return notes on classes or events missing among the cases."""
    names = EVENTS if card.survival is not None else card.classes
    kinds = Counter(
        int(case.target.event) if isinstance(case.target, FollowUp) else case.target
        for case in cases
    )
    counts = {split: {name: kinds[number] for number, name in enumerate(names)}}
    return gaps(counts, Task(card.task), unit_of(cases))


def _risks(card: Card, scores: Scores) -> dict[str, float]:
    if card.survival is None:
        return {}
    risks = card.survival.risk(scores.logits.double()).tolist()
    return dict(zip(scores.patients, risks, strict=True))


def _compared(
    card: Card,
    patients: Sequence[Patient],
    cases: Sequence[Case],
    mixed: bool,
    leave_out: bool,
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Return the cases to evaluate, and notes on their features.

    The notes compare the features with those of the card.
    """
    by_name = {patient.name: patient for patient in patients}
    rows = [row for case in cases for row in slide_features(by_name[case.patient], case.facts)]
    for row in rows:
        require_encoder(row.facts.encoder, card.encoder)
    remarks = compare_features(card, rows, mixed)
    renamed = {p for p in known_persons(card, rows) if not card.trained_on(p)}
    if not renamed:
        return tuple(cases), remarks
    text = (
        f"the model was trained on features or TCGA barcodes of {len(renamed)} "
        f"patients under other names"
    )
    if not leave_out:
        return tuple(cases), (*remarks, text)
    others = tuple(case for case in cases if case.person not in renamed)
    if not others:
        raise ValueError(f"{text}, and no other patient is left")
    return others, (*remarks, f"{text}: left out")


def _warnings(card: Card, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return warnings on training patients, synthetic slides and readers."""
    persons = {case.person for case in cases}
    known = sum(card.trained_on(person) for person in persons)
    kinds = {facts.synthetic for case in cases for facts in case.facts}
    warnings = [f"the model was trained on {known} of {len(persons)} patients"] if known else []
    if kinds != {card.synthetic}:
        words = ("real", "synthetic")
        trained, other = words[card.synthetic], words[not card.synthetic]
        warnings.append(f"the model was trained on {trained} slides, some are {other}")
    return (*warnings, *reading_caveats(facts.reading for case in cases for facts in case.facts))


def _record_warnings(
    record: RecordFormat | None, manifest: Manifest, cases: Sequence[Patient]
) -> tuple[str, ...]:
    """Return a warning on patients without a record.

    Raises ValueError if the cohort's schema differs from the model's.
    """
    if record is None:
        return ()
    record.check(manifest.schema)
    patients = {case.person: case for case in cases}.values()
    empty = sum(not record.tokens(patient.record).present.any() for patient in patients)
    return (f"{empty} of {len(patients)} patients have no record",) if empty else ()


def chosen_patients(card: Card, manifest: Manifest, split: str | None) -> list[Patient]:
    """Return the patients to evaluate, those with a known outcome.

    They are the patients of `split`, or without one, the patients that were neither in the
    training nor in the validation set of the model.

    Raises
    ------
    ValueError
        If there are none.
    """
    task = Task(card.task)
    known = [patient for patient in manifest.patients if task.known_of(patient)]
    if split is None:
        patients = [patient for patient in known if not card.trained_on(patient.person)]
        noun = f"no patient with a {task.column} that the model was not trained on"
    else:
        patients = [patient for patient in known if patient.split == split]
        noun = f"no patient with a {task.column} in the split '{split}'"
    if not patients:
        raise ValueError(f"{manifest.path}: there is {noun}")
    return patients
