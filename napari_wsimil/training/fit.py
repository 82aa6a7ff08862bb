"""Training loop of a model on cases."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from napari_wsimil.models.layers.standardize import Moments
from napari_wsimil.progress import Progress
from napari_wsimil.training.cases import check_cases, check_joint, draw_patches, forward, loss_of
from napari_wsimil.training.config import FitConfig as FitConfig
from napari_wsimil.training.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work

WARM_UP = 0.1  # share of a one-cycle schedule with a rising learning rate


class TrainingError(ValueError):
    """Training cannot continue.

    Parameters
    ----------
    message
        Problem, remedy, and whether weights were kept.
    kept
        Note for the card of the kept weights, without patient names; empty if no weights
        were kept.
    """

    def __init__(self, message: str, kept: str = "") -> None:
        super().__init__(message)
        self.kept = kept


@dataclass(frozen=True, kw_only=True)
class Epoch(Progress):
    """Metrics of an epoch.

    `done` is the number of the epoch, `total` the largest number of epochs and `text` the
    name of the training stage, "fit" if there is only one.

    Attributes
    ----------
    train
        Each term of the loss and their sum, "loss", averaged over the cases during training.
    validation
        `Scores.metrics` of the validation cases; empty if there are none. The loss, which
        selects the weights, is always defined; another undefined metric is NaN.
    scalars
        `Scores.scalars` of the validation cases: scalars reported by the model.
    seconds
        Wall time.
    best
        Whether these are the best weights so far.
    """

    train: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best: bool = False


class Trainer(Protocol):
    """A training function such as `fit`."""

    def __call__(
        self,
        model: MILModel,
        train: Sequence[Case],
        validation: Sequence[Case],
        config: FitConfig | None = None,
    ) -> Work[Epoch]: ...


def fit(
    model: MILModel,
    train: Sequence[Case],
    validation: Sequence[Case],
    config: FitConfig | None = None,
) -> Work[Epoch]:
    """Train `model` in place; return the kept Epoch.

    Yields after each case, and an Epoch after each epoch. The kept weights are those of the
    smallest validation loss, or of the last epoch if there are no validation cases. At the
    end (finished, closed or failed) the model is in eval mode with the best weights so far.
    The same seed, threads and initial weights give the same numbers, independent of random
    numbers that the caller draws between two yields.

    Raises
    ------
    TrainingError
        At the first loss or gradient that is not finite; the message states whether an
        earlier epoch was kept.
    ValueError
        If a patient occurs twice, also across the two sets, or has a class unknown to the
        model.
    """
    config = config or FitConfig()
    if not train:
        raise ValueError("there is no training case")
    check_cases([*train, *validation], model.classes)
    check_joint(train, validation, config.accumulate)
    best = _Best(model)
    try:
        if config.standardize:
            yield from _standardize(model, train)
        best.weights = copy.deepcopy(model.state_dict())
        steps = _Steps(model, len(train), config)
        for number in range(1, config.epochs + 1):
            epoch = best.offer((yield from _epoch(steps, train, validation, number)))
            steps.kept = best.kept.done > 0
            yield epoch
            if config.patience is not None and number - best.kept.done >= config.patience:
                break
        return best.kept
    finally:
        best.restore()


def _standardize(model: MILModel, cases: Sequence[Case]) -> Iterator[Progress]:
    moments = Moments(model.feature_dim)
    for done, case in enumerate(cases, 1):
        for bag in case.bags:
            model.check(bag)
            moments.add(bag.features)
            yield Progress(done, len(cases), "standardize")
    model.standardize.measure(moments)


def _epoch(
    steps: _Steps, train: Sequence[Case], validation: Sequence[Case], number: int
) -> Work[Epoch]:
    started = perf_counter()
    terms = yield from _train_epoch(steps, train, number)
    epoch = Epoch(number, steps.config.epochs, "fit", train=terms)
    if validation:
        scores = yield from evaluate(steps.model, validation, f"validate {number}")
        metrics = scores.metrics()
        if not math.isfinite(metrics["loss"]):
            raise steps.diverged("the validation loss", metrics["loss"], number)
        epoch = replace(epoch, validation=metrics, scalars=scores.scalars)
    return replace(epoch, seconds=perf_counter() - started)


def _train_epoch(steps: _Steps, cases: Sequence[Case], number: int) -> Work[dict[str, float]]:
    totals: defaultdict[str, float] = defaultdict(float)
    order = steps.order(len(cases))
    size = steps.config.accumulate
    done = 0
    for batch in (order[i : i + size] for i in range(0, len(order), size)):
        for group in [batch] if cases[0].joint else [[index] for index in batch]:
            terms = steps.learn([cases[i] for i in group], len(group) / len(batch), number)
            for name, value in terms.items():
                totals[name] += len(group) * value / len(cases)
            done += len(group)
            yield Progress(done, len(cases), f"epoch {number}")
        steps.step(number)
    return dict(totals)


class _Steps:
    """Optimizer, learning rate schedule and random state of a training."""

    def __init__(self, model: MILModel, cases: int, config: FitConfig) -> None:
        total = config.epochs * math.ceil(cases / config.accumulate)
        self.model = model
        self.config = config
        self.kept = False  # whether the weights of an epoch were kept
        self._passes = config.epochs * cases
        self._done = 0
        self._optimizer = AdamW(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self._schedule = LambdaLR(self._optimizer, lambda step: rate(step, total, config.schedule))
        self._optimizer.zero_grad()
        self._random = torch.Generator().manual_seed(config.seed).get_state()

    def order(self, count: int) -> list[int]:
        with self._own_random():
            order: list[int] = torch.randperm(count).tolist()
        return order

    def learn(self, group: Sequence[Case], weight: float, number: int) -> dict[str, float]:
        """Add the gradient of a group of cases.

        The group is one case, or several with a joint loss.
        """
        self.model.train()
        self.model.progress = self._done / self._passes
        self._done += len(group)
        with self._own_random():
            outputs = [forward(self.model, self._augmented(case)) for case in group]
            terms = loss_of(self.model, outputs, group)
        loss = torch.stack(list(terms.values())).sum()
        if not math.isfinite(loss.item()):
            quantity = f'the loss of patient "{group[0].patient}"'
            raise self.diverged(quantity, loss.item(), number)
        (weight * loss).backward()
        return {"loss": loss.item()} | {name: term.item() for name, term in terms.items()}

    def step(self, number: int) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not torch.isfinite(norm):
            raise self.diverged("the gradient", norm.item(), number)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()

    def _augmented(self, case: Case) -> Iterator[Bag]:
        most = max(1, self.config.patches // len(case.bags))
        for bag in case.bags:
            sample = draw_patches(bag, 1 - self.config.drop, most)
            yield self._noisy_record(self._noisy(sample))

    def _noisy(self, bag: Bag) -> Bag:
        x, finer = bag.features, bag.finer
        scale = self.model.standardize.scale
        if self.config.noise:
            x = x + self.config.noise * scale * torch.randn_like(x)
        shift = self.config.shift * scale * torch.randn_like(x[0]) if self.config.shift else 0
        if isinstance(finer, torch.Tensor):
            finer = finer + self.config.noise * scale * torch.randn_like(finer[:, :1]) + shift
        return replace(bag, features=x + shift, finer=finer)

    def _noisy_record(self, bag: Bag) -> Bag:
        spread, record = self.config.record_noise, bag.clinical
        if record is None or not spread:
            return bag
        values = tuple(value + spread * torch.randn_like(value) for value in record.values)
        return replace(bag, clinical=replace(record, values=values))

    def diverged(self, quantity: str, value: float, number: int) -> TrainingError:
        """Return the error for a non-finite loss or gradient."""
        message = (
            f"{quantity} became {value} in epoch {number}: "
            f"train again with a learning rate below {self.config.lr:g}"
        )
        if not self.kept:
            return TrainingError(f"{message}; no earlier epoch could be kept")
        return TrainingError(
            f"{message}; the best weights before it were kept",
            f"training stopped in epoch {number}: a loss or gradient became {value}",
        )

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Use a private random state of torch within the context."""
        callers = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            yield
        finally:
            self._random = torch.get_rng_state()
            torch.set_rng_state(callers)


class _Best:
    """The best weights so far and their epoch."""

    def __init__(self, model: MILModel) -> None:
        self.weights = copy.deepcopy(model.state_dict())
        self.kept = Epoch(text="fit")
        self._model = model

    def offer(self, epoch: Epoch) -> Epoch:
        """Keep the weights of an epoch if best.

        Returns the epoch, marked as best in that case.
        """
        if not epoch.validation or epoch.validation["loss"] < self._loss():
            self.weights = copy.deepcopy(self._model.state_dict())
            epoch = self.kept = replace(epoch, best=True)
        return epoch

    def restore(self) -> None:
        self._model.load_state_dict(self.weights)
        self._model.progress = 1.0
        self._model.eval()

    def _loss(self) -> float:
        return self.kept.validation.get("loss", math.inf)


def rate(step: int, total: int, schedule: str) -> float:
    """Return the relative learning rate at a step.

    It is 0 at the end.
    """
    warm = max(1, round(WARM_UP * total)) if schedule == "one-cycle" else 0
    if step < warm:
        return (step + 1) / (warm + 1)
    return (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))) / 2
