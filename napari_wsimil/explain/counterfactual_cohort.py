"""What-if over a cohort: one edit of many cases' records."""

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
    #: A case's name, record and bags; bags may be loaded lazily.
    Subject: TypeAlias = tuple[str, Record | None, Sequence[Bag]]


@dataclass(frozen=True)
class Row:
    """Result of an edit for one case.

    Attributes
    ----------
    case
        Name of the case.
    before, after
        Probability by outcome, pooled over slides; empty if the case failed.
    movements
        Shift of the main map of each slide.
    within
        Whether each shift is within its baseline variability; empty if not measured.
    features
        SHA-256 of the features of the slides.
    warnings
        Warnings of the second prediction, and rules that the edited record breaks.
    failed
        Reason why there is no prediction; empty if there is one.
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
    """Apply an edit to every case; yield progress.

    It returns one row per case. A failed case has the reason in its row; the others continue.

    Parameters
    ----------
    model, card
        As for `predict`.
    subjects
        The cases.
    change
        Returns the edited record of a record; its errors fail the case.
    noisy
        Whether to measure the baseline variability of each slide's main map, six passes more.

    Raises
    ------
    ValueError
        If the model uses no records.
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
        raise ValueError("the case has no record to change")
    bags, edited = tuple(bags), change(record)
    before, after = (predict_patient(model, card, case, bags, one) for one in (record, edited))
    pairs = tuple(zip(before.slides, after.slides, strict=True))
    shifts = tuple(main_movement(*pair) for pair in pairs)
    return Row(
        case=case,
        before=_probabilities(card, before),
        after=_probabilities(card, after),
        movements=shifts,
        within=_within(model, card, bags, record, shifts) if noisy else (),
        features=features_digest(bags),
        warnings=(*after.warnings, *broken_by(card, record, edited)),
    )


def _probabilities(card: Card, prediction: PatientPrediction) -> dict[str, float]:
    return dict(zip(card.outcomes, prediction.probabilities.tolist(), strict=True))


def _within(
    model: MILModel, card: Card, bags: Sequence[Bag], record: Record, shifts: Sequence[Movement]
) -> tuple[bool, ...]:
    return tuple(
        noise_at_once(model, card, bag, record).within(shift)
        for bag, shift in zip(bags, shifts, strict=True)
    )
