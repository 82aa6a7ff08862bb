"""Assessment: how well a trained model does on the patients of a cohort."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.learning.cases import FollowUp, unit_of
from napari_wsimil.learning.cohort import read_cases
from napari_wsimil.learning.evaluation import evaluate
from napari_wsimil.learning.gaps import gaps
from napari_wsimil.learning.missingness import telling
from napari_wsimil.learning.outcomes import EVENTS, Outcome, Task
from napari_wsimil.learning.results import bounds

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_wsimil.learning.cases import Case
    from napari_wsimil.learning.cohort import Closer
    from napari_wsimil.learning.evaluation import Scores, Step
    from napari_wsimil.learning.metrics import Interval
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.record import RecordFormat
    from napari_wsimil.study.manifest import Manifest, Patient


@dataclass(frozen=True)
class Assessment:
    """What came of it.

    Attributes
    ----------
    metrics
        Value and bounds ("low", "high") of the 95 % bootstrap interval, by metric; None where
        they are not defined, and then a "reason".
    patients
        Probability of each class, or of survival beyond each time bin, by patient (or slide,
        where each is a case of its own) and name.
    warnings
        What whoever reads the metrics must know, each once.
    persons, unit
        How many patients these are of, and what the cases are: "patients" or "slides".
    cases
        Who was asked about, in order.
    risks
        Of survival, by patient, higher for who has the event earlier; none of classes.
    """

    metrics: dict[str, dict[str, float | str | None]]
    patients: dict[str, dict[str, float]]
    warnings: tuple[str, ...]
    persons: int
    unit: str
    cases: Sequence[Case]
    risks: dict[str, float]


def assess(
    model: MILModel,
    card: Card,
    manifest: Manifest,
    folder: Path | None = None,
    split: str | None = None,
    draws: int = 1000,
    closer: Closer | None = None,
) -> Generator[Step, None, Assessment]:
    """Yield after every patient; return the metrics over patients.

    Parameters
    ----------
    folder
        Where features are that the manifest does not place.
    split
        Who is asked about; None for all patients with a label (or time and event) that
        the model was neither trained nor selected on.
    draws
        Bootstrap draws of patients.
    closer
        Gives a slide's bag its finer features, for models that need them.

    Raises
    ------
    ValueError
        If nobody is left to ask about, a label is no class of the model, features are of
        another encoder, or the model reads records and those here are of another schema.
    """
    patients = chosen_patients(card, manifest, split)
    warnings: tuple[str, ...] = ()
    if card.record is not None:
        card.record.check(manifest.schema)
        warnings = _record_warnings(card.record, tuple({p.person: p for p in patients}.values()))
    outcome = Outcome.of_card(card)
    cases = yield from read_cases(patients, outcome, folder, card.record, closer)
    warnings += _warnings(card, cases)
    persons = {case.person for case in cases}
    if card.record is not None:
        once = {(case.person, case.target): case for case in cases}
        warnings += telling(card.record.clinical.groups, tuple(once.values()))
    scores = yield from evaluate(model, cases, "patients")
    logits = scores.logits.double()
    of = split or "evaluated"
    found = bounds(scores, draws, classes=card.classes, of=of)
    warnings += _lacking(card, cases, of)
    return Assessment(
        metrics={name: _plain(interval) for name, interval in found.items()},
        patients={
            name: dict(zip(card.outcomes, row, strict=True))
            for name, row in zip(scores.patients, card.chances(logits).tolist(), strict=True)
        },
        warnings=warnings,
        persons=len(persons),
        unit=unit_of(cases),
        cases=cases,
        risks=_risks(card, scores),
    )


def _plain(interval: Interval) -> dict[str, float | str | None]:
    """Return a metric for JSON, with null and a reason for what is not defined."""
    plain: dict[str, float | str | None] = {
        "value": interval.value if interval.is_defined else None,
        "low": interval.low if interval.has_bounds else None,
        "high": interval.high if interval.has_bounds else None,
    }
    return plain | ({"reason": interval.reason} if interval.reason else {})


def _lacking(card: Card, cases: Sequence[Case], of: str) -> tuple[str, ...]:
    """Return which classes or events nobody of some cases has."""
    names = EVENTS if card.survival is not None else card.classes
    kinds = Counter(
        int(case.target.event) if isinstance(case.target, FollowUp) else case.target
        for case in cases
    )
    counts = {of: {name: kinds[number] for number, name in enumerate(names)}}
    return gaps(counts, Task(card.task), unit_of(cases))


def _risks(card: Card, scores: Scores) -> dict[str, float]:
    if card.survival is None:
        return {}
    risks = card.survival.risk(scores.logits.double()).tolist()
    return dict(zip(scores.patients, risks, strict=True))


def _warnings(card: Card, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return what to know of these cases; ValueError if another encoder made a bag."""
    persons = {case.person for case in cases}
    known = sum(card.trained_on(person) for person in persons)
    kinds = set()
    for bag in (bag for case in cases for bag in case.bags):
        kinds.add(bag.synthetic)
        if bag.encoder != card.encoder:
            raise ValueError(
                f"features were made by {bag.encoder or 'an encoder nobody named'}, this model "
                f"takes those of {card.encoder}: extract them again with that encoder"
            )
    found = [f"the model was trained on {known} of {len(persons)} patients"] if known else []
    if kinds != {card.synthetic}:
        words = ("real", "synthetic")
        asked = words[not card.synthetic]
        found.append(f"the model was trained on {words[card.synthetic]} slides, some are {asked}")
    return tuple(found)


def _record_warnings(record: RecordFormat, patients: Sequence[Patient]) -> tuple[str, ...]:
    silent = sum(not record.tokens(patient.record).present.any() for patient in patients)
    return (f"{silent} of {len(patients)} patients have no record at all",) if silent else ()


def chosen_patients(card: Card, manifest: Manifest, split: str | None) -> list[Patient]:
    """Return the patients of a split with what the model is asked, or those it does not know.

    Raises
    ------
    ValueError
        If there are none.
    """
    task = Task(card.task)
    known = [patient for patient in manifest.patients if task.known_of(patient)]
    if split is None:
        chosen = [patient for patient in known if not card.trained_on(patient.person)]
        lack = f"no patient with a {task.column} that the model was not trained on"
    else:
        chosen = [patient for patient in known if patient.split == split]
        lack = f"no patient with a {task.column} of the split {split!r}"
    if not chosen:
        raise ValueError(f"{manifest.path}: there is {lack}")
    return chosen
