"""Evaluation: what a model says of patients it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F

from napari_wsimil.learning.metrics import metrics

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.learning.cases import Case
    from napari_wsimil.models.base import MILModel, MILOutput

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
        P names.
    targets
        (P,) int64, their classes.
    logits
        (P, C) float32, mean over each patient's slides.
    """

    patients: tuple[str, ...]
    targets: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """Return (P, C), in float64."""
        return self.logits.double().softmax(dim=1)

    def metrics(self) -> dict[str, float]:
        """Return the mean cross-entropy as "loss", and `learning.metrics.metrics`."""
        loss = F.cross_entropy(self.logits.double(), self.targets).item()
        return {"loss": loss} | metrics(self.targets.numpy(), self.probabilities.numpy())


def evaluate(
    model: MILModel, cases: Sequence[Case], stage: str = "evaluate"
) -> Generator[Step, None, Scores]:
    """Yield after every patient's slide; return the scores of all patients.

    The model is in eval mode, without gradients, only while it computes: between two
    yields nothing of the caller's is changed.
    """
    logits = []
    for done, case in enumerate(cases):
        outputs = []
        for bag in case.bags:
            outputs.append(_answer(model, bag))
            yield Step(stage, done, len(cases))
        logits.append(model.pool(outputs).logits)
    yield Step(stage, len(cases), len(cases))
    return Scores(
        patients=tuple(case.patient for case in cases),
        targets=torch.tensor([case.target for case in cases], dtype=torch.int64),
        logits=torch.stack(logits) if logits else torch.empty(0, model.classes),
    )


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
