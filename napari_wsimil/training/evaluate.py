"""Assessment: how well a trained model does on the patients of a cohort."""

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
    from napari_wsimil.training.dataset import Closer
    from napari_wsimil.training.evaluation import Scores
    from napari_wsimil.training.metrics import Interval


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
    failed
        Why a case has no prediction, by its name: its features could not be read.
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
    """Yield after every patient; return the metrics over patients.

    Cases whose features cannot be read are left out and named. So are, unless a split is
    asked about, patients whose features the model was trained on under another name.

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
    mixed
        Whether features of other µm per pixel or patch sizes than the card's are accepted.

    Raises
    ------
    ValueError
        If nobody is left to ask about, a label is no class of the model, features are of
        another encoder or scale, or the model reads records and those here are of another
        schema.
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
        persons=len({case.person for case in cases}),
        unit=unit_of(cases),
        cases=cases,
        risks=_risks(card, scores),
        failed=unread,
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


def _compared(
    card: Card,
    patients: Sequence[Patient],
    cases: Sequence[Case],
    mixed: bool,
    leave_out: bool,
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Return the cases to ask about, and remarks on their features and the card's."""
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
    left = tuple(case for case in cases if case.person not in renamed)
    if not left:
        raise ValueError(f"{text}, and nobody else is left to ask about")
    return left, (*remarks, f"{text}: left out")


def _warnings(card: Card, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return what to know of these cases."""
    persons = {case.person for case in cases}
    known = sum(card.trained_on(person) for person in persons)
    kinds = {facts.synthetic for case in cases for facts in case.facts}
    found = [f"the model was trained on {known} of {len(persons)} patients"] if known else []
    if kinds != {card.synthetic}:
        words = ("real", "synthetic")
        asked = words[not card.synthetic]
        found.append(f"the model was trained on {words[card.synthetic]} slides, some are {asked}")
    return (*found, *reading_caveats(facts.reading for case in cases for facts in case.facts))


def _record_warnings(
    record: RecordFormat | None, manifest: Manifest, cases: Sequence[Patient]
) -> tuple[str, ...]:
    """Return how many patients have no record; ValueError if theirs are of another schema."""
    if record is None:
        return ()
    record.check(manifest.schema)
    patients = {case.person: case for case in cases}.values()
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
        lack = f"no patient with a {task.column} of the split '{split}'"
    if not chosen:
        raise ValueError(f"{manifest.path}: there is {lack}")
    return chosen
