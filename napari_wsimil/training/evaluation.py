"""Evaluation of a model on cases: scores, metrics and results."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.features.case import FollowUp
from napari_wsimil.models.losses import criterion, log_risk, survival
from napari_wsimil.progress import Progress
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.metrics import confusion, intervals, metrics, roc_curves
from napari_wsimil.training.splits import gaps
from napari_wsimil.training.survival_metrics import c_index, c_index_interval
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel, MILOutput
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work
    from napari_wsimil.training.metrics import Interval, Roc

#: Upper ends of the color bar, in multiples of uniform attention.
_ROUND = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Scores:
    """Pooled predictions of a model for P cases.

    Attributes
    ----------
    patients
        P names, of patients or of slides as cases.
    targets
        (P,) int64 classes; for survival (P, 2) float32, time bins or times, and events.
    logits
        (P, C) float32, mean over each patient's slides.
    follow_ups
        Follow-up of each patient for survival; otherwise empty.
    scalars
        Mean of each of `MILOutput.scalars` over the slides that have it.
    persons
        P names of patients if the cases are slides; otherwise empty.
    """

    patients: tuple[str, ...]
    targets: Tensor
    logits: Tensor
    follow_ups: tuple[FollowUp, ...] = ()
    scalars: dict[str, float] = field(default_factory=dict)
    persons: tuple[str, ...] = ()

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities, (P, C) float64."""
        return self.logits.double().softmax(dim=1)

    @property
    def risks(self) -> Tensor:
        """Risk scores, (P,) float64, higher for earlier events."""
        logits = self.logits.double()
        return log_risk(logits) if self._joint else -survival(logits).sum(dim=1)

    def metrics(self) -> dict[str, float]:
        """Return the mean loss and the metrics of the task.

        The keys are "loss", and those of `metrics` for classes or "c_index" for survival. An
        undefined value is NaN; `undefined` returns the reason.
        """
        if self.follow_ups:
            return {"loss": self._loss(), "c_index": c_index(self.follow_ups, self.risks)}
        return {"loss": self._loss()} | metrics(self.targets.numpy(), self.probabilities.numpy())

    def undefined(self, classes: Sequence[str], of: str) -> str:
        """Return the reason for undefined metrics.

        It is empty if all are defined.

        Parameters
        ----------
        classes
            Names of the classes.
        of
            Name of the set of cases, such as "test".
        """
        count = f"{len(self.patients)} {'slides' if self.persons else 'patients'}"
        if self.follow_ups:
            if not math.isnan(c_index(self.follow_ups, self.risks)):
                return ""
            if not any(one.event for one in self.follow_ups):
                return f"no event in the {of} set ({count})"
            return f"no two patients of the {of} set can be compared ({count})"
        present = self.targets.unique().tolist()
        return (
            ""
            if len(present) > 1
            else f"only class {classes[present[0]]} in the {of} set ({count})"
        )

    @property
    def _joint(self) -> bool:
        return any(one.bin is None for one in self.follow_ups)

    def _loss(self) -> float:
        logits = self.logits.double()
        if self._joint:
            return criterion(logits, self.targets).item()
        pairs = zip(logits, self.targets, strict=True)
        return torch.stack([criterion(*pair) for pair in pairs]).mean().item()


def evaluate(model: MILModel, cases: Sequence[Case], stage: str = "evaluate") -> Work[Scores]:
    """Evaluate a model on cases; yield after every slide.

    The model is in eval mode, without gradients, only during the computation; between two
    yields its mode is that of the caller.
    """
    logits = []
    scalars: defaultdict[str, list[float]] = defaultdict(list)
    for done, case in enumerate(cases):
        outputs = []
        for bag in case.bags:
            outputs.append(_predict(model, bag))
            for name, value in outputs[-1].scalars.items():
                scalars[name].append(value)
            yield Progress(done, len(cases), stage)
        logits.append(model.pool(outputs).logits.cpu())
    yield Progress(len(cases), len(cases), stage)
    return Scores(
        patients=tuple(case.patient for case in cases),
        targets=_stacked([case.answer for case in cases], torch.empty(0, dtype=torch.int64)),
        logits=_stacked(logits, torch.empty(0, model.classes)),
        follow_ups=tuple(case.target for case in cases if isinstance(case.target, FollowUp)),
        scalars={name: fmean(values) for name, values in scalars.items()},
        persons=tuple(case.person for case in cases) if unit_of(cases) == "slides" else (),
    )


def attention_top(model: MILModel, cases: Sequence[Case]) -> Work[dict[str, float]]:
    """Return the upper end of the attention color bar.

    The key is "attention_top". It is the same for every slide: the 98th percentile of the
    attention over all patches of `cases`, in multiples of uniform attention, rounded up to
    a round number. The dictionary is empty for models without attention.
    """
    attention = []
    for done, case in enumerate(cases):
        yield Progress(done, len(cases), "attention")
        for bag in case.bags:
            with torch.no_grad():
                maps = model.eval()(bag).explanations
            attention += [one.times_uniform() for one in maps if one.name == "attention"]
    if not attention:
        return {}
    top = float(np.nanquantile(torch.cat(attention).numpy(), 0.98))
    return {"attention_top": next((end for end in _ROUND if end >= top), _ROUND[-1])}


def _stacked(rows: list[Tensor], empty: Tensor) -> Tensor:
    return torch.stack(rows) if rows else empty


@torch.no_grad()
def _predict(model: MILModel, bag: Bag) -> MILOutput:
    training = model.training
    model.eval()
    try:
        return model(bag)  # type: ignore[no-any-return]
    finally:
        model.train(training)


@dataclass(frozen=True)
class PatientResult:
    """True and predicted outcome of a patient.

    Attributes
    ----------
    patient
        Name in the manifest, of the patient or of the slide if the cases are slides.
    truth
        Name of the class, or the follow-up in words.
    answer
        Name of the predicted class, or the risk.
    right
        Whether the prediction is correct; None for survival.
    chances
        Probabilities in the order of the card's `outcomes`.
    slide
        Path of the patient's first slide; None if the manifest has none.
    """

    patient: str
    truth: str
    answer: str
    right: bool | None
    chances: tuple[float, ...]
    slide: Path | None


@dataclass(frozen=True, eq=False)
class Results:
    """Metrics and predictions on the test or validation set.

    Attributes
    ----------
    of
        Name of the set, "test" or "validation". Metrics of the validation set are too
        optimistic, since the weights were selected on it.
    outcomes
        Names of the predicted probabilities.
    metrics
        With 95 % bootstrap intervals over patients.
    patients
        In the order of the cohort.
    roc
        One class against the rest; empty for survival.
    confusion
        (C, C) counts, row the true class, column the predicted one; None for survival.
    unit
        Unit of the cases, "patients" or "slides".
    notes
        Sentences on classes or events that are missing in a set of the cohort.
    """

    of: str
    outcomes: tuple[str, ...]
    metrics: dict[str, Interval]
    patients: tuple[PatientResult, ...]
    roc: tuple[Roc, ...] = ()
    confusion: NDArray[np.int64] | None = None
    unit: str = "patients"
    notes: tuple[str, ...] = ()


def results_of(of: str, scores: Scores, card: Card, manifest: Manifest) -> Results:
    """Return the results on a set of cases."""
    unit = unit_of(manifest.patients)
    bounded = bounds(scores, classes=card.classes, of=of)
    notes = gaps(card.parts, Task(card.task), unit)
    patients = _patients(scores, card, manifest)
    if scores.follow_ups:
        return Results(of, card.outcomes, bounded, patients, unit=unit, notes=notes)
    targets, probabilities = scores.targets.numpy(), scores.probabilities.numpy()
    return Results(
        of,
        card.outcomes,
        bounded,
        patients,
        roc=roc_curves(targets, probabilities),
        confusion=confusion(targets, probabilities),
        unit=unit,
        notes=notes,
    )


def bounds(
    scores: Scores, draws: int = 1000, *, classes: Sequence[str] = (), of: str = "test"
) -> dict[str, Interval]:
    """Return the metrics with 95 % bootstrap intervals.

    Parameters
    ----------
    scores
        Scores of the cases.
    draws
        Number of bootstrap draws.
    classes, of
        Names of the classes and of the set of cases, used in the reasons for missing values.
    """
    classes = classes or [str(number) for number in range(scores.logits.shape[1])]
    reason = scores.undefined(classes, of)
    if scores.follow_ups:
        return c_index_interval(scores.follow_ups, scores.risks, draws, scores.persons, reason)
    return intervals(
        scores.targets.numpy(),
        scores.probabilities.numpy(),
        persons=scores.persons,
        draws=draws,
        names=[f"class {name}" for name in classes],
        undefined=reason,
    )


def figures(
    scores: Scores, classes: Sequence[str], of: str
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the metrics of a set for the card.

    Undefined values are None; the second dictionary has the reasons.
    """
    known = {f"{of} {name}": value for name, value in scores.metrics().items()}
    missing = [name for name, value in known.items() if math.isnan(value)]
    reason = scores.undefined(classes, of) if missing else ""
    numbers = {name: None if name in missing else value for name, value in known.items()}
    return numbers, dict.fromkeys(missing, f"not defined: {reason}")


def _patients(scores: Scores, card: Card, manifest: Manifest) -> tuple[PatientResult, ...]:
    slides = {patient.name: patient.slides[0].slide_path for patient in manifest.patients}
    order = {patient.name: number for number, patient in enumerate(manifest.patients)}
    logits = scores.logits.double()
    probabilities = card.chances(logits)
    if card.survival is None:
        truths = [card.classes[int(target)] for target in scores.targets]
        predictions = [card.classes[int(best)] for best in logits.argmax(dim=1)]
    else:
        truths = [_follow_up_text(one, card.survival.unit) for one in scores.follow_ups]
        predictions = [f"risk {risk:.3f}" for risk in card.survival.risk(logits).tolist()]
    rows = sorted(
        zip(scores.patients, truths, predictions, probabilities.tolist(), strict=True),
        key=lambda row: order[row[0]],
    )
    return tuple(
        PatientResult(
            patient=name,
            truth=truth,
            answer=prediction,
            right=truth == prediction if card.survival is None else None,
            chances=tuple(row),
            slide=slides[name],
        )
        for name, truth, prediction, row in rows
    )


def _follow_up_text(one: FollowUp, unit: str) -> str:
    return f"{'event' if one.event else 'no event'} until {one.time:.12g} {unit}"
