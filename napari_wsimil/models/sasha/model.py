"""SASHA: sequential reading of few patches (NeurIPS 2025)."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.layers.pooling import GatedAttention
from napari_wsimil.models.sasha.environment import Environment, looks
from napari_wsimil.models.sasha.hafed import HAFED, fine_of
from napari_wsimil.models.sasha.updater import Kept, StateUpdater, pooled
from napari_wsimil.models.trajectory import Look, Trajectory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILOutput

AHEAD = 16  # likely next patches with similar patches computed in one product


class Episode:
    """State of `SASHA` on a slide after some steps.

    The actor's logit, the M attention scores and each class's contribution are cached per patch;
    a step recomputes those of the rows that it changed. The results are exact.

    Parameters
    ----------
    model
        The model with the weights; nothing here has gradients.
    z
        (N, D) standardized coarse features.
    read
        Patch → v (D,) and its attention (k,): the only access to sub-patch features.

    Attributes
    ----------
    steps
        T, the number of steps of a full episode.
    looks
        The steps so far.
    """

    @torch.no_grad()
    def __init__(
        self, model: SASHA, z: Tensor, read: Callable[[int], tuple[Tensor, Tensor]]
    ) -> None:
        self.steps = looks(len(z), model.budget)
        self.looks: list[Look] = []
        self._model = model
        self._read = read
        self._environment = Environment(z, model.updater, model.threshold.item())
        self._kept = Kept(partial(_per_row, model), z)  # no reference cycle: freed at once
        self._start = self.probabilities()

    @property
    def state(self) -> Tensor:
        """Return the (N, D) present state, changed by each step."""
        return self._environment.state

    @property
    def changed(self) -> Tensor:
        """Return the (n,) rows that the last step changed."""
        last = self.looks[-1]
        return torch.cat([last.updated, last.updated.new_tensor([last.patch])])

    def policy(self) -> Tensor:
        """Return (N,) log-probabilities of the next step.

        -inf for patches that were read.
        """
        return self._masked().log_softmax(dim=0)

    def best(self) -> int:
        """Return the unread patch with the actor's highest logit.

        Logits with different last bits may be equal as log-probabilities.
        """
        return int(self._masked().argmax())

    def actor(self) -> Tensor:
        """Return the actor's (N,) logits, read patches included."""
        return self._kept.values[0]

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Return (C,) of the slide in the present state."""
        m = self._model.branches
        e, share = self._kept.values[1 : 1 + m], self._kept.values[1 + m :]
        logits: Tensor = pooled(e, share) + self._model.head.bias
        return logits.softmax(dim=0)

    @torch.no_grad()
    def look(self, patch: int, policy: Tensor) -> Look:
        """Read a patch chosen by `policy`; return the step."""
        v, attention = self._read(patch)
        if not self._environment.foresees(patch):
            ahead = policy.topk(min(AHEAD, self.steps - len(self.looks))).indices
            self._environment.foresee(torch.cat([ahead, ahead.new_tensor([patch])]).unique())
        updated = self._environment.look(patch, v)
        return self._record(patch, policy, updated, v, attention)

    @torch.no_grad()
    def repeat(self, step: Look) -> None:
        """Repeat a recorded step without reading the patch."""
        self._environment.repeat(step.patch, step.fine, step.updated)
        self.looks.append(step)
        self._kept.renew(self.state, self.changed)

    def trajectory(self) -> Trajectory:
        """Return the trajectory so far."""
        return Trajectory(len(self.state), self._start, tuple(self.looks))

    def _masked(self) -> Tensor:
        return self.actor().masked_fill(self._environment.visited, -torch.inf)

    def _record(
        self, patch: int, policy: Tensor, updated: Tensor, v: Tensor, attention: Tensor
    ) -> Look:
        changed = torch.cat([updated, updated.new_tensor([patch])])
        self._kept.renew(self.state, changed)
        step = Look(
            patch=patch,
            log_probability=policy[patch].item(),
            entropy=entropy(policy).item(),
            probabilities=self.probabilities(),
            updated=updated,
            fine=v,
            attention=attention,
        )
        self.looks.append(step)
        return step


def _per_row(model: SASHA, s: Tensor) -> Tensor:
    share = s @ model.head.weight.T  # (n, C)
    return torch.cat([model.actor(s), model.attention(s), share], dim=1)  # (n, 1 + M + C)


def entropy(policy: Tensor) -> Tensor:
    """Return (...) entropies in nats of (..., N) log-probabilities.

    Some log-probabilities may be -inf.
    """
    return -(policy.exp() * policy.clamp_min(torch.finfo(policy.dtype).min)).sum(dim=-1)


PAPER_TAU = 0.95


class SASHA(HAFED):
    """HAFED on a share of the patches, selected by a policy.

    The state S starts as the coarse features. At each of T = ⌈N · budget⌉ steps the actor
    scores every patch of S by gated attention; the unread patch of the highest score is read at
    high resolution, and similar patches are updated with it (`Environment`). The slide's logits
    are HAFED's stage 2 on the last state.

    Parameters
    ----------
    feature_dim, classes, attention_dim, branches, fine_masked, masked, mask_rate
        As of `HAFED`; the actor has the same width as the attention.
    budget
        Share of the patches read at high resolution, above 0 and at most 1.
    tau
        Cosine from which patches are similar. 0 takes a quantile of the cosines of training
        patches, measured in training and stored with the weights: on standardized features the
        paper's 0.95 may match nothing.
    negative
        Index of the class without findings; its slides do not train the actor's first steps.
        -1 if every class has its own findings. Classes are in the order of their names.

    Attributes
    ----------
    threshold
        () the cosine in use, a part of the weights.

    Notes
    -----
    Training and use share one environment: cosines are signed and of the present state, a
    patch is updated at most once, none is read twice, and an episode ends at T for any N.
    Attention and evidence are of the last state, in which most patches were never read at high
    resolution: "order" shows the patches that were. Training in three stages is
    `training.sasha.train_sasha`; the actor is warmed up by distilling HAFED's patch logits,
    because PPO from scratch hardly learns.
    """

    threshold: Tensor

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        attention_dim: int = 128,
        branches: int = 5,
        fine_masked: int = 10,
        masked: int = 20,
        mask_rate: float = 0.24,
        budget: float = 0.2,
        tau: float = 0.0,
        negative: int = 0,
    ) -> None:
        super().__init__(
            feature_dim=feature_dim,
            classes=classes,
            attention_dim=attention_dim,
            branches=branches,
            fine_masked=fine_masked,
            masked=masked,
            mask_rate=mask_rate,
        )
        if not 0 < budget <= 1:
            raise ValueError(f"budget must be above 0 and at most 1, not {budget}")
        if not 0 <= tau <= 1:
            raise ValueError(f"tau must be a cosine from 0 (measured) to 1, not {tau}")
        if not -1 <= negative < classes:
            raise ValueError(f"negative must be a class below {classes} or -1, not {negative}")
        self.budget = budget
        self.tau = tau
        self.negative = negative
        self.register_buffer("threshold", torch.tensor(tau or PAPER_TAU))
        self.updater = StateUpdater(feature_dim)
        self.actor = GatedAttention(feature_dim, attention_dim)

    @property
    def remark(self) -> str:
        """Return how the actor was trained, and on which classes."""
        start = "the actor was warmed up by distilling HAFED's patch logits, then trained with PPO"
        if self.negative < 0:
            return f"{start}; every class was taken as having its own findings"
        return f"{start}; class {self.negative} was taken as having no findings"

    def hafed(self) -> HAFED:
        """Return the classifier alone, with shared weights."""
        config = {name: getattr(self, name) for name in inspect.signature(HAFED).parameters}
        with torch.device("meta"):  # without initializing weights of its own
            alone = HAFED(**config)
        for name, _ in alone.named_children():
            setattr(alone, name, getattr(self, name))
        alone.progress = self.progress
        return alone.train(self.training)

    def forward(self, bag: Bag) -> MILOutput:
        """Return the output of the greedy episode.

        Its steps are the output's `trajectory`. The logits carry gradients to stage 2 only.
        """
        steps = self.episode(bag)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                output: MILOutput = stop.value
                return output

    def episode(self, bag: Bag) -> Generator[Look, None, MILOutput]:
        """Yield each step of the greedy episode; return its output.

        The generator may be closed after any step: `outcome(bag, steps)` returns the partial
        prediction until then.
        """
        episode = self.begin(bag)
        for _ in range(episode.steps):
            yield episode.look(episode.best(), episode.policy())
        return self._outcome(episode)

    def steps(self, bag: Bag) -> int:
        """Return T, the number of steps of an episode."""
        return looks(len(bag), self.budget)

    def begin(self, bag: Bag) -> Episode:
        """Return an episode before its first step."""
        self.check(bag)
        return Episode(self, self.standardize(bag.features), partial(self._read, bag))

    def replay(self, bag: Bag, steps: Sequence[Look]) -> Episode:
        """Return the episode after these steps, without the encoder."""
        episode = self.begin(bag)
        for step in steps:
            episode.repeat(step)
        return episode

    def outcome(self, bag: Bag, steps: Sequence[Look]) -> MILOutput:
        """Return the output after all or the first steps."""
        return self._outcome(self.replay(bag, steps))

    @torch.no_grad()
    def _read(self, bag: Bag, patch: int) -> tuple[Tensor, Tensor]:
        v, a = self.distill(fine_of(bag, patch)[None])
        return v[0], a[0]

    def _outcome(self, episode: Episode) -> MILOutput:
        return self.outcome_of(episode.state, episode.actor(), episode.trajectory())

    def outcome_of(self, state: Tensor, actor: Tensor, trajectory: Trajectory) -> MILOutput:
        """Return the output of a state.

        It needs the (N, D) state, the actor's (N,) logits there, and the steps that led to it.
        """
        output = self.classify(state)
        attention, *others = output.explanations
        order = torch.full_like(attention.scores, torch.nan)
        order[trajectory.order] = torch.arange(1.0, 1 + len(trajectory.looks)).to(order)
        maps = (
            attention,
            Explanation("order", ExplanationKind.ORDER, order, absent="not examined"),
            *others,
            Explanation("actor", ExplanationKind.SCORE, actor.clone(), unit="logit"),
        )
        scalars = {
            "patches looked at": float(len(trajectory.looks)),
            "encoder calls": float(trajectory.encoder_calls),
            "encoder calls, all read finely": float(trajectory.full_calls),
        }
        return replace(output, explanations=maps, scalars=scalars, trajectory=trajectory)
