"""SASHA on slides whose lesions are faint from afar, and whether it matters where it looks.

World: `learning.planted_zoom`, 16 sub-patches a patch. A probe trained on the patches' own
labels finds lesions in the coarse features with an AUROC of about 0.86 ("coarse probe"), in
what HAFED distills of the fine ones nearly always ("ceiling"). `map_auroc` is of HAFED's
"patch logit: 1" with every patch read finely; `accuracy, full` and `auc, full` are of the same.

SASHA looks at 20 % of the patches; `accuracy` and `auc` are of its greedy episodes,
`accuracy of full` is its accuracy as a share of full HAFED's. `enrichment` is the share of
lesions among the patches looked at, over their share of the slide, the mean over positive
held-out slides: 1 is chance, 5 the most there can be. `encoder calls` is the share of the calls
of reading everything finely, the coarse pass counted.

- "without PPO": the actor as it was distilled from HAFED's patch logits;
- "without update", "global update": nothing is updated by a look; all that is open is, and so
  all at the first look, since a patch is updated once at most;
- "random": any patch; "top-k, actor": a fixed list, by the actor's score before the first look;
  "top-k, HAFED": a fixed list, by HAFED's patch logit on coarse features. All three are with
  the update.

`reward, first` and `reward, last` are of PPO's roll-outs before and in its last epoch, on
training slides. Trained by `recipe("sasha")` and the defaults of `PolicyConfig`; the settings
were chosen on other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from napari_wsimil.models.sasha import SASHA
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import Planted, map_auroc, probe
from napari_wsimil.synthetic.bags_zoom import Zoom, plant_zoom
from napari_wsimil.training.config import recipe
from napari_wsimil.training.evaluation import Scores, evaluate
from napari_wsimil.training.fit import Epoch, fit
from napari_wsimil.training.policy import PolicyConfig
from napari_wsimil.training.ppo import fit_policy
from napari_wsimil.training.sasha import distill, fit_updater, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_wsimil.training.policy import Reading

    Choose = Callable[[Tensor, int], int]

TITLE = "SASHA, 20 % of the patches of slides whose lesions are faint from afar"
CLAIMS = (
    ("the policy looks better than chance", "enrichment", "enrichment, random"),
    ("the policy classifies better than chance", "accuracy", "accuracy, random"),
    ("the policy classifies better than a list by HAFED", "accuracy", "accuracy, top-k, HAFED"),
    ("the policy classifies better than its own list", "accuracy", "accuracy, top-k, actor"),
    ("the policy looks better than its own list", "enrichment", "enrichment, top-k, actor"),
    ("PPO raises the reward", "reward, last", "reward, first"),
    ("PPO raises the accuracy", "accuracy", "accuracy, without PPO"),
    ("PPO looks better", "enrichment", "enrichment, without PPO"),
    ("the update raises the accuracy", "accuracy", "accuracy, without update"),
    ("a targeted update is more accurate than a global one", "accuracy", "accuracy, global update"),
    ("the update looks better", "enrichment", "enrichment, without update"),
)

SHAPE = {"attention_dim": 32}
NEVER, ALWAYS = 2.0, -1.0  # thresholds


@dataclass(frozen=True, eq=False)
class Study:
    """Slides to train on and held-out ones."""

    train: tuple[Planted, ...]
    test: tuple[Planted, ...]


def run(seed: int, quick: bool) -> dict[str, float]:
    """Return the figures of SASHA, of parts of it, and of other ways to look."""
    study = _study(seed, quick)
    model, readings = _prepared(study, seed, quick)
    figures = _full(model, study, readings)
    figures |= _named("without PPO", _looked(model, study.test, _greedy))
    config = PolicyConfig(epochs=1 if quick else PolicyConfig.epochs)
    epochs = [e for e in fit_policy(model, readings, [], seed, config) if isinstance(e, Epoch)]
    figures |= {"reward, first": epochs[0].train["reward"]}
    figures |= {"reward, last": epochs[-1].train["reward"]}
    figures |= _looked(model, study.test, _greedy)
    figures["accuracy of full"] = figures["accuracy"] / figures["accuracy, full"]
    figures |= _other_updates(model, study.test)
    return figures | _other_looks(model, study.test, seed)


def _study(seed: int, quick: bool) -> Study:
    world = Zoom(world=seed, patches=(80, 140) if quick else Zoom.patches)
    train = plant_zoom(world, 100 if quick else 200, 1000 + seed)
    return Study(train, plant_zoom(world, 30 if quick else 60, 2000 + seed))


def _prepared(study: Study, seed: int, quick: bool) -> tuple[SASHA, list[Reading]]:
    """Return a model up to the distilled actor, and what it reads of the training slides."""
    torch.manual_seed(seed)
    model = SASHA(feature_dim=Zoom.dim, classes=2, **SHAPE)
    config = recipe("sasha")
    config = replace(config, seed=seed, epochs=15 if quick else config.epochs)
    cases = [one.case for one in study.train]
    finish(fit(model.hafed(), cases, [], config))
    model.eval()
    readings = finish(distill(model, cases))
    finish(fit_updater(model, readings, seed))
    finish(warm_up(model, readings, seed))
    return model, readings


@torch.no_grad()
def _full(model: SASHA, study: Study, readings: Sequence[Reading]) -> dict[str, float]:
    """Return the figures of HAFED, and the ceilings."""
    hafed = model.hafed().eval()
    scores = finish(evaluate(hafed, [one.case for one in study.test]))
    x = torch.cat([reading.v for reading in readings]).numpy()
    y = np.concatenate([one.truth for one in study.train])
    learned = LogisticRegression(C=0.1, max_iter=500).fit(x, y)
    return {
        **_named("full", _answers(scores)),
        "map_auroc": map_auroc(study.test, lambda one: _patch_logits(hafed(one.bag))),
        "ceiling": map_auroc(
            study.test, lambda one: learned.decision_function(model.distill(one.bag.finer)[0])
        ),
        "coarse probe": map_auroc(study.test, probe(study.train)),
    }


def _other_updates(model: SASHA, test: Sequence[Planted]) -> dict[str, float]:
    """Return the figures with another reach of the update; it is put back."""
    figures, threshold = {}, model.threshold.clone()
    for title, other in (("without update", NEVER), ("global update", ALWAYS)):
        model.threshold.fill_(other)
        figures |= _named(title, _looked(model, test, _greedy))
    model.threshold.copy_(threshold)
    return figures


def _other_looks(model: SASHA, test: Sequence[Planted], seed: int) -> dict[str, float]:
    random = torch.Generator().manual_seed(seed)

    def anywhere(_: Planted) -> Choose:
        def choose(policy: Tensor, __: int) -> int:
            return int(torch.multinomial(policy.isfinite().float(), 1, generator=random))

        return choose

    def by_actor(one: Planted) -> Choose:
        return _listed(model.begin(one.bag).actor())

    def by_hafed(one: Planted) -> Choose:
        return _listed(_patch_logits(model.classify(model.standardize(one.bag.features))))

    ways = {"random": anywhere, "top-k, actor": by_actor, "top-k, HAFED": by_hafed}
    figures = {}
    for title, way in ways.items():
        figures |= _named(title, _looked(model, test, way))
    return figures


def _greedy(_: Planted) -> Choose:
    return lambda policy, _: int(policy.argmax())


def _listed(scores: Tensor) -> Choose:
    order = scores.argsort(descending=True).tolist()
    return lambda _, step: order[step]


def _patch_logits(output: object) -> Tensor:
    return next(m.scores for m in output.explanations if m.name == "patch logit: 1")


@torch.no_grad()
def _looked(
    model: SASHA, test: Sequence[Planted], way: Callable[[Planted], Choose]
) -> dict[str, float]:
    """Return accuracy, auc, enrichment and encoder calls of episodes that look in some way."""
    chances, enrichment, calls = [], [], []
    for one in test:
        episode, choose = model.begin(one.bag), way(one)
        for step in range(episode.steps):
            policy = episode.policy()
            episode.look(choose(policy, step), policy)
        chances.append(episode.probabilities())
        trajectory = episode.trajectory()
        calls.append(trajectory.encoder_calls / trajectory.full_calls)
        if one.truth.any():
            enrichment.append(one.truth[trajectory.order.numpy()].mean() / one.truth.mean())
    targets = torch.tensor([one.case.target for one in test])
    scores = Scores(tuple(one.case.patient for one in test), targets, torch.stack(chances).log())
    return _answers(scores) | {
        "enrichment": float(np.mean(enrichment)),
        "encoder calls": float(np.mean(calls)),
    }


def _answers(scores: Scores) -> dict[str, float]:
    right = scores.probabilities.argmax(dim=1) == scores.targets
    return {"accuracy": right.float().mean().item(), "auc": scores.metrics()["auc"]}


def _named(title: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{key}, {title}": value for key, value in figures.items() if key != "encoder calls"}
