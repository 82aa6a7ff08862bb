"""SASHA: looks finely at a few patches, one after the other (NeurIPS 2025)."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models.base import Explanation, ExplanationKind
from napari_wsimil.models.layers.pooling import GatedAttention
from napari_wsimil.models.sasha.environment import looks
from napari_wsimil.models.sasha.episode import Episode
from napari_wsimil.models.sasha.hafed import HAFED, fine_of
from napari_wsimil.models.sasha.updater import StateUpdater

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILOutput
    from napari_wsimil.models.sasha.trajectory import Look, Trajectory

PAPER_TAU = 0.95


class SASHA(HAFED):
    """A HAFED that reads only a share of the patches finely, chosen by a policy.

    The state S starts as the coarse features. At each of T = ⌈N · budget⌉ steps the actor
    scores every patch of S by gated attention; the patch of the highest score among those
    not yet looked at is read finely, and patches that resemble it are updated with it
    (`Environment`). The slide's logits are HAFED's stage 2 on the last state.

    Parameters
    ----------
    feature_dim, classes, attention_dim, branches, fine_masked, masked, mask_rate
        As of `HAFED`; the actor has the same width as the attention.
    budget
        Share of the patches that is read finely, above 0 and at most 1.
    tau
        Cosine from which patches resemble each other. 0 takes a quantile of the cosines of
        training patches, which training measures and the weights keep: on standardized
        features the paper's 0.95 may match nothing.
    negative
        Index of the class in which there is nothing to find, whose slides do not teach the
        actor where to look first; -1 if every class has its own signs. Classes are in the
        order of their names.

    Attributes
    ----------
    threshold
        () the cosine in use, a part of the weights.

    Notes
    -----
    Training and use share one environment: cosines are signed and of the present state, a
    patch is updated once at most, none is looked at twice, and an episode ends at T
    whatever N. Attention and evidence are of the last state, in which most patches were
    never read finely: "order" says which were. Training in three stages is
    `learning.sasha.train_sasha`; the actor is warmed up by distilling HAFED's patch logits,
    since PPO from nothing hardly moves.
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
        """Return how the policy got its start, and on what classes."""
        start = "the actor was warmed up by distilling HAFED's patch logits, then trained with PPO"
        if self.negative < 0:
            return f"{start}; every class was taken as having its own signs"
        return f"{start}; class {self.negative} was taken as having nothing to find"

    def hafed(self) -> HAFED:
        """Return the classifier alone; it shares its weights with this model."""
        config = {name: getattr(self, name) for name in inspect.signature(HAFED).parameters}
        with torch.device("meta"):  # its own weights are never drawn
            alone = HAFED(**config)
        for name, _ in alone.named_children():
            setattr(alone, name, getattr(self, name))
        alone.progress = self.progress
        return alone.train(self.training)

    def forward(self, bag: Bag) -> MILOutput:
        """Return the outcome of the greedy episode, its steps as `trajectory`.

        The logits carry gradients to stage 2 only.
        """
        steps = self.episode(bag)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                output: MILOutput = stop.value
                return output

    def episode(self, bag: Bag) -> Generator[Look, None, MILOutput]:
        """Yield each look of the greedy episode; return its outcome.

        It may be closed at any step: `outcome(bag, looks)` tells what was seen until then.
        """
        episode = self.begin(bag)
        for _ in range(episode.steps):
            yield episode.look(episode.best(), episode.policy())
        return self._outcome(episode)

    def steps(self, bag: Bag) -> int:
        """Return T, how many looks an episode has."""
        return looks(len(bag), self.budget)

    def begin(self, bag: Bag) -> Episode:
        """Return an episode in which nothing was looked at yet."""
        self.check(bag)
        return Episode(self, self.standardize(bag.features), partial(self._read, bag))

    def replay(self, bag: Bag, looks: Sequence[Look]) -> Episode:
        """Return the episode after these looks at a slide; its encoder is not asked."""
        episode = self.begin(bag)
        for look in looks:
            episode.repeat(look)
        return episode

    def outcome(self, bag: Bag, looks: Sequence[Look]) -> MILOutput:
        """Return the output after these looks, all of them or the first ones."""
        return self._outcome(self.replay(bag, looks))

    @torch.no_grad()
    def _read(self, bag: Bag, patch: int) -> tuple[Tensor, Tensor]:
        v, a = self.distill(fine_of(bag, patch)[None])
        return v[0], a[0]

    def _outcome(self, episode: Episode) -> MILOutput:
        return self.outcome_of(episode.state, episode.actor(), episode.trajectory())

    def outcome_of(self, state: Tensor, actor: Tensor, trajectory: Trajectory) -> MILOutput:
        """Return the output in a (N, D) state: the actor's (N,) logits there, the looks to it."""
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


def policy_map(policy: Tensor, step: int) -> Explanation:
    """Return the probabilities of look `step`, of (N,) log-probabilities."""
    name, unit = f"policy of look {step}", "probability to be looked at next"
    return Explanation(name, ExplanationKind.AMOUNT, policy.exp(), unit=unit)
