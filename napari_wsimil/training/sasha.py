"""Training of SASHA: classifier, state update and policy, one generator after the other."""

from __future__ import annotations

import copy
import math
from contextlib import closing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.optim import AdamW

from napari_wsimil.models.sasha import SASHA
from napari_wsimil.models.sasha.environment import looks
from napari_wsimil.models.sasha.hafed import fine_of, fine_parts
from napari_wsimil.progress import Progress
from napari_wsimil.training.fit import Epoch, FitConfig, fit
from napari_wsimil.training.ppo import Reading, descend, fit_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work

ALIKE = 0.97  # quantile of the cosines of two patches of a slide from which they are alike
PAIRS = 2000  # of each slide, on which it is measured
WORTH = 0.04  # share of a positive slide's patches that the actor is first taught to seek
WEIGHT = 20.0  # of these in the cross-entropy
READ = 0.2  # share of the patches shown as read finely while it is taught
WARM_UP = 15  # epochs of it
WARM_UP_LR = 3e-3
ANCHORS = 4  # patches of a slide from which the updater learns in one step
UPDATER_EPOCHS = 6
UPDATER_LR = 1e-3


def train_sasha(
    model: MILModel,
    train: Sequence[Case],
    validation: Sequence[Case],
    config: FitConfig | None = None,
) -> Work[Epoch]:
    """Train a `SASHA` in place; yield Epochs of its stages; return the last one.

    The stages are HAFED by `fit` with `config`, the state update by `fit_updater`, the actor
    warmed up by `warm_up` and then trained by `fit_policy`. The text of an
    Epoch names its stage ("hafed", "updater", "actor", "policy"); numbers start anew in each.
    Fine features that are not stored are read first, all of them: see `training_cost`.
    """
    if not isinstance(model, SASHA):
        raise ValueError(f"train_sasha trains a SASHA, not a {type(model).__name__}")
    config = config or FitConfig()
    train = yield from read_finely(train)
    validation = yield from read_finely(validation)
    yield from _staged("hafed", fit(model.hafed(), train, validation, config))
    model.eval()
    readings = yield from distill(model, train)
    yield from fit_updater(model, readings, config.seed)
    yield from warm_up(model, readings, config.seed)
    return (yield from fit_policy(model, readings, validation, config.seed))


def _staged(stage: str, work: Work[Epoch]) -> Work[None]:
    """Yield what `work` yields, its epochs under the name of a stage."""
    with closing(work):
        for event in work:
            yield replace(event, text=stage) if isinstance(event, Epoch) else event


def train_hafed(
    model: MILModel,
    train: Sequence[Case],
    validation: Sequence[Case],
    config: FitConfig | None = None,
) -> Work[Epoch]:
    """Train a `HAFED` in place by `fit`; yield its progress and Epochs, return the kept Epoch.

    Fine features that are not stored are read once, before the first epoch, and held until
    the end: 4 k D bytes a patch, such as 16 KB with 16 sub-patches of 256 features, which is
    160 MB for a slide of 10,000 patches. All slides of both sets must fit into memory.
    """
    train = yield from read_finely(train)
    validation = yield from read_finely(validation)
    return (yield from fit(model, train, validation, config))


def read_finely(cases: Sequence[Case]) -> Work[Sequence[Case]]:
    """Yield after each patient; return the cases with all fine features stored.

    A case whose bags hold them already is returned as it is.
    """
    stored = []
    for done, case in enumerate(cases, 1):
        computed = any(callable(bag.finer) for bag in case.bags)
        stored.append(replace(case, bags=tuple(map(_stored, case.bags))) if computed else case)
        yield Progress(done, len(cases), "read finely")
    return stored


def _stored(bag: Bag) -> Bag:
    return replace(bag, finer=torch.stack([fine_of(bag, patch) for patch in range(len(bag))]))


@torch.no_grad()
def distill(model: SASHA, cases: Sequence[Case]) -> Work[list[Reading]]:
    """Yield after each patient; return both readings of all their slides."""
    readings = []
    for done, case in enumerate(cases, 1):
        for bag in case.bags:
            model.check(bag)
            v = torch.cat([model.distill(u)[0] for u in fine_parts(bag)])
            readings.append(Reading(model.standardize(bag.features), v, case.label))
        yield Progress(done, len(cases), "distill")
    return readings


def fit_updater(
    model: SASHA, readings: Sequence[Reading], seed: int, epochs: int = UPDATER_EPOCHS
) -> Work[Epoch]:
    """Train the state update; yield progress and Epochs, return the last Epoch.

    For a random patch a and those like it, a among them, what the update makes of their
    coarse features is to be their v: the mean squared error. If the model's `tau` is 0, the
    cosine from which patches are alike is measured first. Closed or failed, it leaves the
    weights of the last whole epoch, as `warm_up` does; both raise TrainingError at the first
    loss or gradient that is not finite.
    """
    random = torch.Generator().manual_seed(seed)
    if model.tau == 0:
        model.threshold.fill_(alike(readings, random))

    def loss(reading: Reading) -> Tensor:
        anchors = torch.randint(len(reading.z), (ANCHORS,), generator=random)
        terms = [_error_of_update(model, reading, int(anchor)) for anchor in anchors]
        return torch.stack(terms).mean()

    stage = _Stage("updater", model.updater, UPDATER_LR, loss)
    return (yield from stage.run(readings, epochs, random))


def alike(readings: Sequence[Reading], random: torch.Generator) -> float:
    """Return the `ALIKE` quantile of the cosines of two patches of a slide."""
    cosines = []
    for reading in readings:
        one, other = torch.randint(len(reading.z), (2, PAIRS), generator=random)
        differ = one != other
        cosines.append(F.cosine_similarity(reading.z[one[differ]], reading.z[other[differ]], dim=1))
    every = torch.cat(cosines)
    if len(every) == 0:
        raise ValueError("no training slide has two patches, so none can be alike: state tau")
    return every.kthvalue(math.ceil(ALIKE * len(every))).values.item()


def _error_of_update(model: SASHA, reading: Reading, anchor: int) -> Tensor:
    z, v = reading.z, reading.v
    like = F.cosine_similarity(z, z[anchor], dim=1) >= model.threshold
    like[anchor] = True
    return F.mse_loss(model.updater(v[anchor], z[anchor], z[like]), v[like])


def warm_up(
    model: SASHA, readings: Sequence[Reading], seed: int, epochs: int = WARM_UP
) -> Work[Epoch | None]:
    """Distill HAFED into the actor; yield progress and Epochs, return the last Epoch.

    In slides of any class but the model's `negative`, the patches of the highest patch
    logits of the slide's own class on v are those worth a look, and the actor learns to
    tell them from the others (weighted cross-entropy) while only some patches are read
    finely. Only labels of slides are used. None is returned where every slide is of class
    `negative`: the actor then stays as it is.
    """
    random = torch.Generator().manual_seed(seed)
    positive = [reading for reading in readings if reading.target != model.negative]
    if not positive:
        return None

    def loss(reading: Reading) -> Tensor:
        read = torch.rand(len(reading.z), 1, generator=random) < READ
        logits = model.actor(torch.where(read, reading.v, reading.z))[:, 0]
        worth = _worth(model, reading)
        weight = torch.where(worth > 0, WEIGHT, 1.0)
        return F.binary_cross_entropy_with_logits(logits, worth, weight=weight)

    stage = _Stage("actor", model.actor, WARM_UP_LR, loss)
    return (yield from stage.run(positive, epochs, random))


@torch.no_grad()
def _worth(model: SASHA, reading: Reading) -> Tensor:
    """Return (N,) 1 for the patches HAFED finds most like the slide's class, else 0."""
    share = reading.v @ model.head.weight.T  # (N, C)
    evidence = share[:, reading.target] - share.mean(dim=1)  # (N,)
    worth = torch.zeros(len(evidence))
    worth[evidence.topk(max(1, round(WORTH * len(evidence)))).indices] = 1.0
    return worth


class _Stage:
    """A part of the model in training, one step a slide.

    Parameters
    ----------
    name, part, lr
        Of what is trained, by AdamW.
    loss
        Of a slide.
    """

    def __init__(
        self, name: str, part: nn.Module, lr: float, loss: Callable[[Reading], Tensor]
    ) -> None:
        self._name, self._part, self._loss = name, part, loss
        self._optimizer = AdamW(part.parameters(), lr=lr)

    def run(self, readings: Sequence[Reading], epochs: int, random: torch.Generator) -> Work[Epoch]:
        """Return the last Epoch; however it ends, the part has the last whole one's weights."""
        weights = copy.deepcopy(self._part.state_dict())
        try:
            for number in range(1, epochs + 1):
                epoch = yield from self._epoch(readings, number, random)
                epoch = replace(epoch, total=epochs)
                weights = copy.deepcopy(self._part.state_dict())
                yield epoch
        finally:
            self._part.load_state_dict(weights)
        return epoch

    def _epoch(
        self, readings: Sequence[Reading], number: int, random: torch.Generator
    ) -> Work[Epoch]:
        """Step once a slide, in an order drawn anew."""
        started, total = perf_counter(), 0.0
        stage = f"{self._name} {number}"
        order = torch.randperm(len(readings), generator=random).tolist()
        for done, index in enumerate(order, 1):
            term = self._loss(readings[index])
            descend(stage, self._optimizer, term, math.inf)
            total += term.item()
            yield Progress(done, len(readings), stage)
        seconds = perf_counter() - started
        terms = {"loss": total / len(readings)}
        return Epoch(number, number, self._name, train=terms, seconds=seconds, best=True)


@dataclass(frozen=True)
class TrainingCost:
    """What training SASHA takes of the encoder, and when that is won back.

    Attributes
    ----------
    hours
        To read every patch of the training slides, coarsely and finely.
    pays_after
        Slides after which looking at some patches has saved as many encoder calls as the
        training took, against reading every slide finely; None if never.
    share
        Encoder calls of a later slide, as a share of reading it finely.
    """

    hours: float
    pays_after: int | None
    share: float

    def __str__(self) -> str:
        pays = (
            f"which pays after {self.pays_after} slides"
            if self.pays_after is not None
            else "which never pays"
        )
        return (
            f"Training reads all patches of all slides finely: {self.hours:.1f} h of the encoder. "
            f"A slide then takes {self.share:.0%} of the encoder calls of reading it all, {pays}."
        )


def training_cost(
    slides: int, patches: int, sub_patches: int, budget: float, rate: float
) -> TrainingCost:
    """Return what it takes to train on `slides` of `patches` patches each.

    Parameters
    ----------
    sub_patches
        k, the images of a fine look at a patch.
    budget
        Share of the patches of a later slide that is read finely.
    rate
        Images per second of the encoder.
    """
    if min(slides, patches, sub_patches) < 1 or rate <= 0:
        raise ValueError("slides, patches, sub_patches and rate must be above 0")
    training = slides * patches * (1 + sub_patches)
    full = patches * sub_patches
    later = patches + looks(patches, budget) * sub_patches
    pays = math.ceil(training / (full - later)) if later < full else None
    return TrainingCost(training / rate / 3600, pays, later / full)
