"""PPO training of SASHA's policy (Schulman et al. 2017)."""

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

from napari_wsimil.models.sasha.environment import Environment
from napari_wsimil.models.sasha.model import Episode, entropy
from napari_wsimil.models.sasha.updater import Kept, pooled
from napari_wsimil.progress import Progress
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import Epoch, TrainingError
from napari_wsimil.training.policy import Critic, PolicyConfig, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from napari_wsimil.features.case import Case
    from napari_wsimil.models.sasha import SASHA
    from napari_wsimil.models.trajectory import Look
    from napari_wsimil.progress import Work

TINY = 1e-8  # lower bound of probabilities and standard deviations


@dataclass(frozen=True, eq=False)
class RollOut:
    """A sampled episode.

    Attributes
    ----------
    looks
        T steps. They also define the masks: step t cannot select the t patches before it.
    rewards, values
        (T,) reward of each step, and the critic's value of the state before it.
    """

    looks: Sequence[Look]
    rewards: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Choices:
    """Steps of roll-outs for one round of updates.

    Attributes
    ----------
    states, hidden
        (n, N, D) states, and (n, N) bool masks of patches that could not be selected.
    chosen
        (n,) indices of the selected patches.
    advantages, returns
        (n,) each; advantages are standardized over all steps of the round.
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
        """Return (n,) log-probabilities of the selected patches."""
        return self.log_policy(actor).gather(1, self.chosen[:, None])[:, 0]


def fit_policy(
    model: SASHA,
    readings: Sequence[Reading],
    validation: Sequence[Case],
    seed: int,
    config: PolicyConfig | None = None,
) -> Work[Epoch]:
    """Train the actor by PPO; return the kept Epoch.

    Yields progress and Epochs; epoch 0 is the initial actor. The reward of a step is
    -CE(y, slide after it) / T. The kept epoch has the smallest validation loss of greedy
    episodes without repeated patches, or is the last without validation cases. The actor has
    these weights also if closed or failed, such as by a TrainingError at the first loss or
    gradient that is not finite. "reward" is an episode's mean total, "loss" its negative.
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
    """Actor and critic with their optimizers and random state.

    Parameters
    ----------
    model
        Model with the actor to train.
    config, seed
        Settings, and the seed of the critic's weights and of all sampling.
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
        """Sample and, except in epoch 0, learn; return the mean reward."""
        total = 0.0
        order = torch.randperm(len(readings), generator=self._random).tolist()
        for done, index in enumerate(order, 1):
            roll_outs = [self.roll_out(readings[index]) for _ in range(self.config.roll_outs)]
            total += sum(one.rewards.sum().item() for one in roll_outs) / len(roll_outs)
            if number > 0:
                self.learn(readings[index], roll_outs)
            yield Progress(done, len(readings), f"policy {number}")
        return {"loss": -total / len(readings), "reward": total / len(readings)}

    @torch.no_grad()
    def roll_out(self, reading: Reading) -> RollOut:
        """Sample an episode from the policy."""
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

    def learn(self, reading: Reading, roll_outs: Sequence[RollOut]) -> None:
        """Update actor and critic on steps of a slide's roll-outs."""
        choices = self.choices(reading, roll_outs)
        with torch.no_grad():
            before = choices.log_chosen(self._model.actor)
        for _ in range(self.config.updates):
            loss = self.actor_loss(choices, before)
            descend("policy", self._actors, loss, self.config.norm)
            error = F.mse_loss(self.critic(choices.states), choices.returns)
            descend("policy", self._critics, error, self.config.norm)

    def actor_loss(self, choices: Choices, before: Tensor) -> Tensor:
        """Return -surrogate - entropy bonus; the first ratio is 1."""
        policy = choices.log_policy(self._model.actor)
        chosen = policy.gather(1, choices.chosen[:, None])[:, 0]
        ratio = (chosen - before).exp()
        low, high = 1 - self.config.clip, 1 + self.config.clip
        gains = choices.advantages
        gain = torch.minimum(ratio * gains, ratio.clamp(low, high) * gains)
        return -gain.mean() - self.config.entropy * entropy(policy).mean()

    def choices(self, reading: Reading, roll_outs: Sequence[RollOut]) -> Choices:
        """Return random steps of the roll-outs with recomputed states."""
        gains = [self._gains(one) for one in roll_outs]
        every = torch.cat(gains)
        parts = [
            self._replay(reading, one, gain) for one, gain in zip(roll_outs, gains, strict=True)
        ]
        states, hidden, chosen, gain, returns = map(torch.cat, zip(*parts, strict=True))
        scale = every.std(correction=0).clamp_min(TINY)
        return Choices(states, hidden, chosen, (gain - every.mean()) / scale, returns)

    def _gains(self, one: RollOut) -> Tensor:
        return advantages(one.rewards, one.values, self.config.discount, self.config.smoothing)

    def _replay(self, reading: Reading, one: RollOut, gains: Tensor) -> tuple[Tensor, ...]:
        """Return states, masks, choices, advantages and returns of random steps."""
        sample = torch.randperm(len(gains), generator=self._random)[: self.config.replayed]
        steps = sample.sort().values
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
    """Make one optimizer step with the gradient clipped to `norm`.

    Raises
    ------
    TrainingError
        If the loss or a gradient is not finite; no weight is changed then.
    """
    _check_finite(stage, "the loss", loss)
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        gradient_norm = torch.nn.utils.clip_grad_norm_(group["params"], norm)
        _check_finite(stage, "the gradient", gradient_norm)
    optimizer.step()


def _check_finite(stage: str, quantity: str, value: Tensor) -> None:
    if not torch.isfinite(value):
        became = f"{quantity} became {value.item()}"
        raise TrainingError(
            f"{became} in stage {stage}: train again with another seed; "
            "the best weights before it were kept",
            f"training stopped in stage {stage}: {became}, and no later stage was trained",
        )


def advantages(rewards: Tensor, values: Tensor, discount: float, smoothing: float) -> Tensor:
    """Return (T,) generalized advantage estimates.

    Schulman et al. 2016, eq. 16: A_t = δ_t + γ λ A_{t+1}, δ_t = r_t + γ V_{t+1} - V_t;
    after the last step V and A are 0.
    """
    estimates = torch.zeros_like(rewards)
    later = value = rewards.new_zeros(())
    for t in reversed(range(len(rewards))):
        later = rewards[t] + discount * value - values[t] + discount * smoothing * later
        value = values[t]
        estimates[t] = later
    return estimates
