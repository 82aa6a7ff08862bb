"""Training of SASHA: classifier, state update, actor, policy."""

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
from napari_wsimil.training.policy import Reading
from napari_wsimil.training.ppo import descend, fit_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work

ALIKE = 0.97  # quantile of patch-pair cosines within a slide, the threshold of similarity
PAIRS = 2000  # patch pairs of each slide for this quantile
WORTH = 0.04  # share of a positive slide's patches that are targets in the warm-up
WEIGHT = 20.0  # weight of these patches in the cross-entropy
READ = 0.2  # share of the patches with sub-patch features in the warm-up
WARM_UP = 15  # epochs of the warm-up
WARM_UP_LR = 3e-3
ANCHORS = 4  # anchor patches of a slide in one step of the updater
UPDATER_EPOCHS = 6
UPDATER_LR = 1e-3


def train_sasha(
    model: MILModel,
    train: Sequence[Case],
    validation: Sequence[Case],
    config: FitConfig | None = None,
) -> Work[Epoch]:
    """Train a `SASHA` in place; return the kept Epoch.

    The stages are HAFED by `fit` with `config`, the state update by `fit_updater`, the
    actor's warm-up by `warm_up` and its training by `fit_policy`. Yields the Epochs of all
    stages; the text of an Epoch is its stage ("hafed", "updater", "actor", "policy"), and
    numbers restart in each. Sub-patch features that are not stored are all computed first,
    see `training_cost`.
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
    """Yield the steps of `work`, epochs labeled with `stage`."""
    with closing(work):
        for event in work:
            yield replace(event, text=stage) if isinstance(event, Epoch) else event


def train_hafed(
    model: MILModel,
    train: Sequence[Case],
    validation: Sequence[Case],
    config: FitConfig | None = None,
) -> Work[Epoch]:
    """Train a `HAFED` by `fit`; return the kept Epoch.

    Sub-patch features that are not stored are computed once, before the first epoch, and
    stay in memory until the end: 4 k D bytes per patch, such as 16 KB with 16 sub-patches of
    256 features, or 160 MB for a slide of 10,000 patches. All slides of both sets must fit
    into memory. Yields progress and Epochs.
    """
    train = yield from read_finely(train)
    validation = yield from read_finely(validation)
    return (yield from fit(model, train, validation, config))


def read_finely(cases: Sequence[Case]) -> Work[Sequence[Case]]:
    """Load all sub-patch features of the cases into memory.

    Yields after each patient. A case with all sub-patch features in memory is returned
    unchanged.
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
    """Distill the sub-patch features of all slides.

    Yields after each patient.
    """
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
    """Train the state update; return the last Epoch.

    Yields progress and Epochs. For a random anchor patch a and the patches similar to it,
    including a, the loss is the mean squared error between their updated coarse features
    and their v. If the model's `tau` is 0, the cosine threshold of similarity is measured
    first. If closed or failed, the updater has the weights of the last complete epoch, as
    in `warm_up`; both raise TrainingError at the first loss or gradient that is not finite.
    """
    random = torch.Generator().manual_seed(seed)
    if model.tau == 0:
        model.threshold.fill_(alike(readings, random))

    def loss(reading: Reading) -> Tensor:
        anchors = torch.randint(len(reading.z), (ANCHORS,), generator=random)
        terms = [_update_error(model, reading, int(anchor)) for anchor in anchors]
        return torch.stack(terms).mean()

    stage = _Stage("updater", model.updater, UPDATER_LR, loss)
    return (yield from stage.run(readings, epochs, random))


def alike(readings: Sequence[Reading], random: torch.Generator) -> float:
    """Return the `ALIKE` quantile of patch-pair cosines within slides."""
    cosines = []
    for reading in readings:
        one, other = torch.randint(len(reading.z), (2, PAIRS), generator=random)
        differ = one != other
        cosines.append(F.cosine_similarity(reading.z[one[differ]], reading.z[other[differ]], dim=1))
    every = torch.cat(cosines)
    if len(every) == 0:
        raise ValueError("no training slide has two patches to measure tau: give tau")
    return every.kthvalue(math.ceil(ALIKE * len(every))).values.item()


def _update_error(model: SASHA, reading: Reading, anchor: int) -> Tensor:
    z, v = reading.z, reading.v
    similar = F.cosine_similarity(z, z[anchor], dim=1) >= model.threshold
    similar[anchor] = True
    return F.mse_loss(model.updater(v[anchor], z[anchor], z[similar]), v[similar])


def warm_up(
    model: SASHA, readings: Sequence[Reading], seed: int, epochs: int = WARM_UP
) -> Work[Epoch | None]:
    """Distill HAFED into the actor; return the last Epoch.

    Yields progress and Epochs. In slides of every class except the model's `negative`, the
    targets are the patches with the highest patch logits of the slide's class on v. The
    actor learns to separate them from the other patches (weighted cross-entropy) while a
    random `READ` of the patches has v in place of z. Only slide labels are used. Returns
    None, and leaves the actor unchanged, if every slide has class `negative`.
    """
    random = torch.Generator().manual_seed(seed)
    positive = [reading for reading in readings if reading.target != model.negative]
    if not positive:
        return None

    def loss(reading: Reading) -> Tensor:
        read = torch.rand(len(reading.z), 1, generator=random) < READ
        logits = model.actor(torch.where(read, reading.v, reading.z))[:, 0]
        targets = _target_patches(model, reading)
        weight = torch.where(targets > 0, WEIGHT, 1.0)
        return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)

    stage = _Stage("actor", model.actor, WARM_UP_LR, loss)
    return (yield from stage.run(positive, epochs, random))


@torch.no_grad()
def _target_patches(model: SASHA, reading: Reading) -> Tensor:
    """Return (N,) targets of the actor's warm-up.

    A target is 1 for the patches with the most evidence by HAFED, else 0.
    """
    share = reading.v @ model.head.weight.T  # (N, C)
    evidence = share[:, reading.target] - share.mean(dim=1)  # (N,)
    targets = torch.zeros(len(evidence))
    targets[evidence.topk(max(1, round(WORTH * len(evidence)))).indices] = 1.0
    return targets


class _Stage:
    """Training of one part of the model.

    Makes one step per slide.

    Parameters
    ----------
    name, part, lr
        Name of the stage, trained module and learning rate of AdamW.
    loss
        Returns the loss of a slide.
    """

    def __init__(
        self, name: str, part: nn.Module, lr: float, loss: Callable[[Reading], Tensor]
    ) -> None:
        self._name, self._part, self._loss = name, part, loss
        self._optimizer = AdamW(part.parameters(), lr=lr)

    def run(self, readings: Sequence[Reading], epochs: int, random: torch.Generator) -> Work[Epoch]:
        """Train the part; return the last Epoch.

        At the end, also if closed or failed, it has the weights of the last complete epoch.
        """
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
        """Make one step per slide, in random order."""
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
    """Encoder time to train SASHA, and the break-even point.

    Attributes
    ----------
    hours
        Encoder hours to encode all patches and sub-patches of the training slides.
    pays_after
        Number of slides after which the saved encoder calls equal those of the training,
        compared with encoding all sub-patches of every slide; None if never.
    share
        Encoder calls of a later slide, as a share of encoding all its sub-patches.
    """

    hours: float
    pays_after: int | None
    share: float

    def __str__(self) -> str:
        break_even = (
            f"training pays off after {self.pays_after} slides"
            if self.pays_after is not None
            else "training never pays off"
        )
        return (
            f"Training encodes all sub-patches of all slides: {self.hours:.1f} h of the encoder. "
            f"A later slide needs {self.share:.0%} of the encoder calls of all its sub-patches; "
            f"{break_even}."
        )


def training_cost(
    slides: int, patches: int, sub_patches: int, budget: float, rate: float
) -> TrainingCost:
    """Return the cost of training on `slides` slides.

    Each slide has `patches` patches.

    Parameters
    ----------
    sub_patches
        k, the number of sub-patches of a patch.
    budget
        Share of the patches of a later slide with encoded sub-patches.
    rate
        Speed of the encoder in images per second.
    """
    if min(slides, patches, sub_patches) < 1 or rate <= 0:
        raise ValueError("slides, patches, sub_patches and rate must be above 0")
    training = slides * patches * (1 + sub_patches)
    full = patches * sub_patches
    later = patches + looks(patches, budget) * sub_patches
    pays = math.ceil(training / (full - later)) if later < full else None
    return TrainingCost(training / rate / 3600, pays, later / full)
