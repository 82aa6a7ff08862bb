"""Speed of SASHA's episode: what is kept from step to step, against all computed anew.

- `sasha`: a greedy episode with the slide's probabilities after every step. Up to 5,000 patches
  it is a whole episode at a budget of 20 %, above that its first 200 steps. The baseline
  scores, compares and classifies every patch at each step.

D 384, attention width 128, 5 branches, random weights; patches come in groups of a dozen that
resemble each other, mixed over the slide. Fine features are distilled beforehand, so that no
encoder is in the times: in use it dwarfs them on a CPU. The error is of the states at the end
and of the probabilities at each step, and infinite if one patch was chosen otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from _speed import Row

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.sasha import SASHA
from napari_wsimil.models.sasha.model import Episode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

DIM, SUB_PATCHES, CLASSES = 384, 4, 2
ALIKE = 12  # patches of a group
SPREAD = 0.2  # of a group, around a center of length about √D
WHOLE = 5_000  # patches up to which the episode is run to its end
STEPS = 200  # of it above
CHECKED = 5_000  # patches up to which the error is measured


def rows(n: int) -> Iterator[Row]:
    """Yield the row of a slide of `n` patches."""
    model, bag = _model(), _bag(n)
    steps = model.begin(bag).steps if n <= WHOLE else STEPS
    fine = torch.cat([model.distill(u)[0].detach() for u in bag.finer.split(256)])
    attention = torch.ones(SUB_PATCHES)

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        episode = Episode(model, bag.features, lambda patch: (fine[patch], attention))
        for _ in range(steps):
            episode.look(episode.best(), episode.policy())
        trajectory = episode.trajectory()
        return trajectory.order, trajectory.probabilities[1:], episode.state

    def anew() -> tuple[Tensor, Tensor, Tensor]:
        return recomputed(model, bag.features, fine, steps)

    error = _difference(ours(), anew()) if n <= CHECKED else None
    yield Row("sasha", ours, anew, error, "s", width=DIM)


@torch.no_grad()
def recomputed(model: SASHA, z: Tensor, fine: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return patches chosen (T,), probabilities (T, C) and state (N, D), nothing being kept."""
    state = model.standardize(z)
    visited = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    touched = visited.clone()
    order, probabilities = [], []
    for _ in range(steps):
        patch = model.actor(state)[:, 0].masked_fill(visited, -torch.inf).argmax()
        unit = F.normalize(state, dim=1)
        visited[patch] = touched[patch] = True
        similar = (unit @ unit[patch] >= model.threshold) & ~touched
        state[similar] = model.updater(fine[patch], state[patch], state[similar])
        touched |= similar
        state[visited] = fine[visited]
        order.append(patch)
        a = model.attention(state).softmax(dim=0).mean(dim=1)
        probabilities.append(model.head(a @ state).softmax(dim=0))
    return torch.stack(order), torch.stack(probabilities), state


def _difference(
    ours: tuple[Tensor, Tensor, Tensor], theirs: tuple[Tensor, Tensor, Tensor]
) -> float:
    if not torch.equal(ours[0], theirs[0].to(ours[0])):
        return float("inf")
    return max((a - b).abs().max().item() for a, b in zip(ours[1:], theirs[1:], strict=True))


def _model() -> SASHA:
    torch.manual_seed(0)
    return SASHA(feature_dim=DIM, classes=CLASSES, tau=0.95).eval()


def _bag(n: int) -> Bag:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    group = torch.randperm(n, generator=generator) // ALIKE
    centers = torch.randn(n // ALIKE + 1, DIM, generator=generator)
    z = centers[group] + SPREAD * torch.randn(n, DIM, generator=generator)
    noise = torch.randn(n, SUB_PATCHES, DIM, generator=generator)
    return Bag(z, finer=z[:, None] + SPREAD * noise)
