"""PPO: the policy of SASHA, trained on its own episodes (Schulman et al. 2017)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW

from napari_wsimil.models.layers.pooling import GatedAttention
from napari_wsimil.models.sasha.environment import Environment
from napari_wsimil.models.sasha.model import Episode, entropy
from napari_wsimil.models.sasha.updater import Kept, pooled
from napari_wsimil.progress import Progress
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import Epoch, TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from napari_wsimil.features.case import Case
    from napari_wsimil.models.sasha import SASHA
    from napari_wsimil.models.trajectory import Look
    from napari_wsimil.progress import Work

TINY = 1e-8  # below it a probability or a deviation is taken as this


@dataclass(frozen=True, eq=False)
class Reading:
    """A slide read both ways.

    Attributes
    ----------
    z, v
        (N, D) standardized coarse features, and what HAFED distills of the fine ones.
    target
        Its class.
    """

    z: Tensor
    v: Tensor
    target: int

    def read(self, patch: int) -> tuple[Tensor, Tensor]:
        """Return v of a patch as an episode asks for it; its attention is not kept."""
        return self.v[patch], self.v.new_empty(0)


@dataclass(frozen=True)
class PolicyConfig:
    """How the policy is trained.

    Attributes
    ----------
    epochs
        Passes over the slides; with 0 the actor stays as it is.
    roll_outs
        Episodes sampled of a slide before each round of updates.
    updates
        Steps of the optimizer in a round.
    replayed
        Most steps of an episode, drawn at random, on which a round learns: their states are
        made again by replay, since keeping all takes T · N · D numbers.
    lr, critic_lr, weight_decay
        Of AdamW, constant.
    clip
        ε, how far the ratio of probabilities may pay.
    entropy
        Weight of the policy's entropy, which is rewarded.
    discount, smoothing
        γ and λ of the generalized advantage estimate.
    norm
        Largest norm of a gradient.
    """

    epochs: int = 2
    roll_outs: int = 2
    updates: int = 4
    replayed: int = 12
    lr: float = 3e-4
    critic_lr: float = 1e-3
    weight_decay: float = 1e-4
    clip: float = 0.2
    entropy: float = 1e-3
    discount: float = 1.0
    smoothing: float = 0.95
    norm: float = 0.5


class Critic(nn.Module):
    """V(S) = w·Σ aₙ sₙ + c, a = softmax of gated attention; shares nothing with the actor.

    Parameters
    ----------
    feature_dim, attention_dim
        D and L.
    """

    def __init__(self, feature_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.attention = GatedAttention(feature_dim, attention_dim)
        self.value = nn.Linear(feature_dim, 1)

    def forward(self, s: Tensor) -> Tensor:
        """Return the values (...) of states (..., N, D): the rewards still to come."""
        a = self.attention(s)[..., 0].softmax(dim=-1)  # (..., N)
        value: Tensor = self.value((a[..., None, :] @ s)[..., 0, :])[..., 0]
        return value

    def per_row(self, s: Tensor) -> Tensor:
        """Return (n, 2), the score of each patch and what it would be worth alone, less c."""
        return torch.cat([self.attention(s), s @ self.value.weight.T], dim=1)


@dataclass(frozen=True, eq=False)
class RollOut:
    """An episode that was sampled.

    Attributes
    ----------
    looks
        T steps. The mask under which step t was chosen hides the t patches looked at
        before, so that it is kept with the actions.
    rewards, values
        (T,) of each step, and the critic's of the state before it.
    """

    looks: Sequence[Look]
    rewards: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Choices:
    """Steps of roll-outs on which a round of updates learns.

    Attributes
    ----------
    states, hidden
        (n, N, D), and (n, N) bool, the patches that could not be chosen.
    chosen
        (n,) patches.
    advantages, returns
        (n,), the first standardized over all steps of the round.
    """

    states: Tensor
    hidden: Tensor
    chosen: Tensor
    advantages: Tensor
    returns: Tensor

    def log_policy(self, actor: nn.Module) -> Tensor:
        """Return (n, N) log-probabilities of the actor, -inf where hidden."""
        logits: Tensor = actor(self.states)[..., 0]
        return logits.masked_fill(self.hidden, -torch.inf).log_softmax(dim=1)

    def log_chosen(self, actor: nn.Module) -> Tensor:
        """Return (n,) log-probabilities of what was chosen."""
        return self.log_policy(actor).gather(1, self.chosen[:, None])[:, 0]


def fit_policy(
    model: SASHA,
    readings: Sequence[Reading],
    validation: Sequence[Case],
    seed: int,
    config: PolicyConfig | None = None,
) -> Work[Epoch]:
    """Train the actor by PPO; yield progress and Epochs; return the Epoch whose weights are kept.

    The reward of a step is -CE(y, slide after it) / T. Epoch 0 is the actor as it came. Kept
    is the epoch of the smallest validation loss, greedy and without a patch looked at
    twice, or the last where there is nothing to validate on; the actor has these weights
    also if it is closed or fails, as with a TrainingError at the first loss or gradient that
    is not finite. An epoch's "reward" is the mean sum of an episode's, and "loss" is its
    opposite.
    """
    model.eval()
    training = PolicyTraining(model, config or PolicyConfig(), seed)
    best, weights = Epoch(text="policy"), copy.deepcopy(model.actor.state_dict())
    try:
        for number in range(training.config.epochs + 1):
            started = perf_counter()
            terms = yield from training.epoch(readings, number)
            epoch = Epoch(number, training.config.epochs, "policy", train=terms)
            if validation:
                scores = yield from evaluate(model, validation, f"validate policy {number}")
                epoch = replace(epoch, validation=scores.metrics(), scalars=scores.scalars)
            metrics = epoch.validation
            better = not metrics or metrics["loss"] < best.validation.get("loss", math.inf)
            epoch = replace(epoch, seconds=perf_counter() - started, best=better)
            if better:
                best, weights = epoch, copy.deepcopy(model.actor.state_dict())
            yield epoch
    finally:
        model.actor.load_state_dict(weights)
    return best


class PolicyTraining:
    """The moving parts: actor, critic, their optimizers and random numbers.

    Parameters
    ----------
    model
        Whose actor is trained.
    config, seed
        How, and the seed of the critic's weights and of all that is drawn.
    """

    def __init__(self, model: SASHA, config: PolicyConfig, seed: int) -> None:
        self.config = config
        self._model = model
        self._random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = Critic(model.feature_dim, model.attention_dim)
        decay = config.weight_decay
        self._actors = AdamW(model.actor.parameters(), lr=config.lr, weight_decay=decay)
        self._critics = AdamW(self.critic.parameters(), lr=config.critic_lr, weight_decay=decay)

    def epoch(self, readings: Sequence[Reading], number: int) -> Work[dict[str, float]]:
        """Roll out and, but for epoch 0, learn; return the mean reward of an episode."""
        total = 0.0
        order = torch.randperm(len(readings), generator=self._random).tolist()
        for done, index in enumerate(order, 1):
            rolled = [self.roll_out(readings[index]) for _ in range(self.config.roll_outs)]
            total += sum(one.rewards.sum().item() for one in rolled) / len(rolled)
            if number > 0:
                self.learn(readings[index], rolled)
            yield Progress(done, len(readings), f"policy {number}")
        return {"loss": -total / len(readings), "reward": total / len(readings)}

    @torch.no_grad()
    def roll_out(self, reading: Reading) -> RollOut:
        """Return an episode in which each patch is drawn from the policy."""
        episode = Episode(self._model, reading.z, reading.read)
        critic = Kept(self.critic.per_row, reading.z)
        values, rewards = [], []
        for _ in range(episode.steps):
            values.append(pooled(critic.values[:1], critic.values[1:]) + self.critic.value.bias)
            policy = episode.policy()
            patch = int(torch.multinomial(policy.exp(), 1, generator=self._random))
            look = episode.look(patch, policy)
            critic.renew(episode.state, episode.changed)
            rewards.append(look.probabilities[reading.target].clamp_min(TINY).log())
        return RollOut(episode.looks, torch.stack(rewards) / episode.steps, torch.cat(values))

    def learn(self, reading: Reading, rolled: Sequence[RollOut]) -> None:
        """Update actor and critic by some steps of the roll-outs of one slide."""
        choices = self.choices(reading, rolled)
        with torch.no_grad():
            before = choices.log_chosen(self._model.actor)
        for _ in range(self.config.updates):
            loss = self.actor_loss(choices, before)
            descend("policy", self._actors, loss, self.config.norm)
            error = F.mse_loss(self.critic(choices.states), choices.returns)
            descend("policy", self._critics, error, self.config.norm)

    def actor_loss(self, choices: Choices, before: Tensor) -> Tensor:
        """Return the clipped surrogate less the rewarded entropy; the first ratio is 1."""
        policy = choices.log_policy(self._model.actor)
        chosen = policy.gather(1, choices.chosen[:, None])[:, 0]
        ratio = (chosen - before).exp()
        low, high = 1 - self.config.clip, 1 + self.config.clip
        gains = choices.advantages
        gain = torch.minimum(ratio * gains, ratio.clamp(low, high) * gains)
        return -gain.mean() - self.config.entropy * entropy(policy).mean()

    def choices(self, reading: Reading, rolled: Sequence[RollOut]) -> Choices:
        """Return some steps of the roll-outs, their states made again."""
        gains = [self._gains(one) for one in rolled]
        every = torch.cat(gains)
        parts = [
            self._replayed(reading, one, gain) for one, gain in zip(rolled, gains, strict=True)
        ]
        states, hidden, chosen, gained, returns = map(torch.cat, zip(*parts, strict=True))
        scale = every.std(correction=0).clamp_min(TINY)
        return Choices(states, hidden, chosen, (gained - every.mean()) / scale, returns)

    def _gains(self, one: RollOut) -> Tensor:
        return advantages(one.rewards, one.values, self.config.discount, self.config.smoothing)

    def _replayed(self, reading: Reading, one: RollOut, gains: Tensor) -> tuple[Tensor, ...]:
        """Return states, masks, choices, advantages and returns of some steps, drawn anew."""
        drawn = torch.randperm(len(gains), generator=self._random)[: self.config.replayed]
        steps = drawn.sort().values
        environment = Environment(reading.z, self._model.updater, self._model.threshold.item())
        states, hidden = [], []
        for step, look in enumerate(one.looks[: int(steps[-1]) + 1]):
            if step in steps:
                states.append(environment.state.clone())
                hidden.append(environment.visited.clone())
            with torch.no_grad():
                environment.repeat(look.patch, look.fine, look.updated)
        chosen = torch.tensor([look.patch for look in one.looks])[steps]
        returns = (gains + one.values)[steps]
        return torch.stack(states), torch.stack(hidden), chosen, gains[steps], returns


def descend(stage: str, optimizer: Optimizer, loss: Tensor, norm: float) -> None:
    """Make one step of a stage, with gradients of at most `norm`.

    Raises
    ------
    TrainingError
        If the loss or a gradient is not finite, before anything moved.
    """
    _check_finite(stage, "the loss", loss)
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        found = torch.nn.utils.clip_grad_norm_(group["params"], norm)
        _check_finite(stage, "the gradient", found)
    optimizer.step()


def _check_finite(stage: str, what: str, value: Tensor) -> None:
    if not torch.isfinite(value):
        became = f"{what} became {value.item()}"
        raise TrainingError(
            f"{became} in stage {stage}: train again with another seed; "
            "the best weights before it were kept",
            f"training stopped in stage {stage}: {became}, and no later stage was trained",
        )


def advantages(rewards: Tensor, values: Tensor, discount: float, smoothing: float) -> Tensor:
    """Return (T,) generalized advantage estimates (Schulman et al. 2016, eq. 16).

    A_t = δ_t + γ λ A_{t+1}, δ_t = r_t + γ V_{t+1} - V_t; after the last step V and A are 0.
    """
    found = torch.zeros_like(rewards)
    later = value = rewards.new_zeros(())
    for t in reversed(range(len(rewards))):
        later = rewards[t] + discount * value - values[t] + discount * smoothing * later
        value = values[t]
        found[t] = later
    return found
