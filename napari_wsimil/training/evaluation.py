"""Evaluation: what a model says of patients it is asked about."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import torch

from napari_wsimil.models.losses import criterion, log_risk, survival
from napari_wsimil.training.cases import FollowUp, unit_of
from napari_wsimil.training.metrics import metrics
from napari_wsimil.training.survival_metrics import c_index

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel, MILOutput
    from napari_wsimil.training.cases import Case

Result = TypeVar("Result")


@dataclass(frozen=True)
class Step:
    """Where a long work is: `done` of `total` in what `stage` names."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Scores:
    """The pooled answers for some patients.

    Attributes
    ----------
    patients
        P names, of patients or of slides as cases.
    targets
        (P,) int64, their classes; or (P, 2) float32, their time bins or times, and events.
    logits
        (P, C) float32, mean over each patient's slides.
    follow_ups
        What became of each patient, where survival is asked; otherwise none.
    scalars
        The mean of each of `MILOutput.scalars` over the slides that have it.
    persons
        P names of patients, where the cases are slides; otherwise none.
    """

    patients: tuple[str, ...]
    targets: Tensor
    logits: Tensor
    follow_ups: tuple[FollowUp, ...] = ()
    scalars: dict[str, float] = field(default_factory=dict)
    persons: tuple[str, ...] = ()

    @property
    def probabilities(self) -> Tensor:
        """Return (P, C) of the classes, in float64."""
        return self.logits.double().softmax(dim=1)

    @property
    def risks(self) -> Tensor:
        """Return (P,) numbers in the order in which events are expected, in float64."""
        logits = self.logits.double()
        return log_risk(logits) if self._joint else -survival(logits).sum(dim=1)

    def metrics(self) -> dict[str, float]:
        """Return the mean loss as "loss", and `metrics` of classes or "c_index" of survival.

        A number that is not defined is NaN; `undefined` has the reason.
        """
        if self.follow_ups:
            return {"loss": self._loss(), "c_index": c_index(self.follow_ups, self.risks)}
        return {"loss": self._loss()} | metrics(self.targets.numpy(), self.probabilities.numpy())

    def undefined(self, classes: Sequence[str], of: str) -> str:
        """Return why the metrics are not defined, empty if they are.

        Parameters
        ----------
        classes
            Their names.
        of
            What the set of cases is called, such as "test".
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


def evaluate(
    model: MILModel, cases: Sequence[Case], stage: str = "evaluate"
) -> Generator[Step, None, Scores]:
    """Yield after every patient's slide; return the scores of all patients.

    The model is in eval mode, without gradients, only while it computes: between two
    yields nothing of the caller's is changed.
    """
    logits = []
    told: defaultdict[str, list[float]] = defaultdict(list)
    for done, case in enumerate(cases):
        outputs = []
        for bag in case.bags:
            outputs.append(_answer(model, bag))
            for name, value in outputs[-1].scalars.items():
                told[name].append(value)
            yield Step(stage, done, len(cases))
        logits.append(model.pool(outputs).logits.cpu())
    yield Step(stage, len(cases), len(cases))
    return Scores(
        patients=tuple(case.patient for case in cases),
        targets=_stacked([case.answer for case in cases], torch.empty(0, dtype=torch.int64)),
        logits=_stacked(logits, torch.empty(0, model.classes)),
        follow_ups=tuple(case.target for case in cases if isinstance(case.target, FollowUp)),
        scalars={name: fmean(values) for name, values in told.items()},
        persons=tuple(case.person for case in cases) if unit_of(cases) == "slides" else (),
    )


def _stacked(rows: list[Tensor], empty: Tensor) -> Tensor:
    return torch.stack(rows) if rows else empty


@torch.no_grad()
def _answer(model: MILModel, bag: Bag) -> MILOutput:
    training = model.training
    model.eval()
    try:
        return model(bag)  # type: ignore[no-any-return]
    finally:
        model.train(training)


def finish(work: Generator[object, None, Result]) -> Result:
    """Return the result of a generator, driven to its end."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result
