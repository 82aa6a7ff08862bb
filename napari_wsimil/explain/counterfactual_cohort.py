"""Rerun: the same change of the record, asked about of many cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_wsimil.explain.baseline_variability import noise_at_once
from napari_wsimil.explain.counterfactual import broken_by, check_reads, main_movement
from napari_wsimil.explain.predict import predict_patient
from napari_wsimil.features.bag import features_digest
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.explain.predict import PatientPrediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work

    Change: TypeAlias = Callable[[Record], Record]
    #: A case's name, record and bags; bags may be read as they are asked for.
    Subject: TypeAlias = tuple[str, Record | None, Sequence[Bag]]


@dataclass(frozen=True)
class Row:
    """What a change of the record does to one case.

    Attributes
    ----------
    case
        Its name.
    before, after
        Probability by outcome, of all slides together; empty where it failed.
    movements
        Of the main map of each slide.
    within
        Whether each of these is within its noise; empty where that was not asked.
    features
        SHA-256 of the features of its slides.
    warnings
        What whoever reads the answer after must see, and the rules that its record breaks.
    failed
        Why there is no answer; empty if there is one.
    """

    case: str
    before: dict[str, float]
    after: dict[str, float]
    movements: tuple[Movement, ...] = ()
    within: tuple[bool, ...] = ()
    features: str = ""
    warnings: tuple[str, ...] = ()
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseProgress(Progress):
    """Progress after a case, with its row."""

    row: Row


def rerun(
    model: MILModel,
    card: Card,
    subjects: Sequence[Subject],
    change: Change,
    *,
    noisy: bool = True,
) -> Work[tuple[Row, ...]]:
    """Yield after every case; return a row each. A case that fails says why, others go on.

    Parameters
    ----------
    model, card
        As for `predict`.
    subjects
        The cases.
    change
        Makes the other record of a record; what it refuses fails the case.
    noisy
        Whether to measure the noise of each slide's main map, six passes more.

    Raises
    ------
    ValueError
        If the model reads no records.
    """
    check_reads(card)
    rows: list[Row] = []
    for subject in subjects:
        try:
            rows.append(_row(model, card, subject, change, noisy))
        except (ValueError, OSError) as error:
            rows.append(Row(subject[0], {}, {}, failed=str(error)))
        yield CaseProgress(len(rows), len(subjects), row=rows[-1])
    return tuple(rows)


def _row(model: MILModel, card: Card, subject: Subject, change: Change, noisy: bool) -> Row:
    case, record, bags = subject
    if record is None:
        raise ValueError("there is no record to change")
    bags, other = tuple(bags), change(record)
    before, after = (predict_patient(model, card, case, bags, one) for one in (record, other))
    pairs = tuple(zip(before.slides, after.slides, strict=True))
    moved = tuple(main_movement(*pair) for pair in pairs)
    return Row(
        case=case,
        before=_chances(card, before),
        after=_chances(card, after),
        movements=moved,
        within=_within(model, card, bags, record, moved) if noisy else (),
        features=features_digest(bags),
        warnings=(*after.warnings, *broken_by(card, record, other)),
    )


def _chances(card: Card, prediction: PatientPrediction) -> dict[str, float]:
    return dict(zip(card.outcomes, prediction.probabilities.tolist(), strict=True))


def _within(
    model: MILModel, card: Card, bags: Sequence[Bag], record: Record, moved: Sequence[Movement]
) -> tuple[bool, ...]:
    return tuple(
        noise_at_once(model, card, bag, record).within(one)
        for bag, one in zip(bags, moved, strict=True)
    )
