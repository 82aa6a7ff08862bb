"""BD: accuracy as clinical records go missing, against fillings, and what distillation does.

World: planted records. Of 40 % of the patients only three fields of the blood group tell the
class; the record and the rest of the slide are independent. 30 % of the training patients lack the
blood group. On held-out slides the whole record is hidden at random; "with" and "without" are
the patients that have it and lack it at that rate. All but "image only" (ABMIL) are networks of
the same shape:

- "bd": as `models/bd.py` has it, groups dropped in training, λ = 1;
- "no distillation": λ = 0; "no dropping": a group is never hidden in training;
- "mean fill", "zero fill": the multi-modal branch alone, trained on the patients with the whole
  record; what is missing at test time is filled with the training mean, or with the zero of
  the field's own unit, taken as 2 standard deviations below the mean as for many blood values;
- "mean fill in training too": missing groups are filled before training as well;
- "bd, blood hidden": only the blood group is hidden, so that the multi-modal branch answers
  with its prompt. What is hidden with it otherwise is noise: the figure beside "bd, 100%"
  compares the prompt with the single-modal branch.

Where nothing of the record can be seen on the slide, distillation has nothing to hand over. The
figures of "hinted" are of a world where lesions look a little as the record points (moved by
0.8 tanh(2 record·weights) along one direction), so that it could.

`map_auroc` is of "patch logit" of the true class, on held-out slides whose lesion alone
decides; `ceiling` that of a probe trained on the kinds of patches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from _missing import RATES, ask, fill, hide, mean_tokens
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from napari_wsimil.models import create_model
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags_clinical import (
    GROUPS,
    LESIONS,
    WIDTHS,
    Recorded,
    Records,
    plant_records,
)
from napari_wsimil.training.config import recipe
from napari_wsimil.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _missing import Answers
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.training.fit import FitConfig

    Figures = dict[str, float]

TITLE = "accuracy as records go missing"
BLOOD = 1  # the group that tells
LACKING = 0.3  # share of the training patients without it
DRAWS = 10
SHOWN = 0.4  # the rate at which patients with and without are told apart
ZERO = -2.0  # a raw zero, in standard deviations of the patients'
HINT = 0.8  # how far lesions move with the record, in standard deviations of the noise
PROBED = 100  # patients the probe learns from
SHAPE = {"feature_dim": 64, "classes": LESIONS, "width": 128, "attention_dim": 64}
APART = {"lam_ms": 0.0, "lam_sm": 0.0}  # two branches without distillation

CLAIMS = (
    ("distillation helps patients with a record", "bd, 0%", "no distillation, 0%"),
    ("distillation helps patients without", "bd, 100%", "no distillation, 100%"),
    (
        "… where the slide hints at the record",
        "hinted: bd, 100%",
        "hinted: no distillation, 100%",
    ),
    ("dropping groups in training helps patients without", "bd, 100%", "no dropping, 100%"),
    ("the prompt does better than the single-modal branch", "bd, blood hidden", "bd, 100%"),
    ("bd does better than zero fill without a record", "bd, 100%", "zero fill, 100%"),
    ("bd does better than mean fill without a record", "bd, 100%", "mean fill, 100%"),
    ("bd does better than the image alone without a record", "bd, 100%", "image only"),
    ("bd does better than the image alone with a record", "bd, 0%", "image only"),
)


def run(seed: int, quick: bool) -> Figures:
    """Return the figures of one seed."""
    train, test = (150, 60) if quick else (300, 200)
    planted = plant_records(Records(world=seed), train + test, seed)
    config = replace(recipe("bd"), seed=seed)
    if quick:
        config = replace(config, epochs=15, lr=2e-3, accumulate=4)
    world = World(planted[:train], planted[train:], config)
    figures = branches(world) | fillings(world)
    if quick:
        return figures
    hinted = [hint(one, seed) for one in planted]
    return figures | ablations(world, World(hinted[:train], hinted[train:], config))


class World:
    """Patients to train on, some of whom lack the blood group, and patients to test on."""

    def __init__(
        self, seen: Sequence[Recorded], held: Sequence[Recorded], config: FitConfig
    ) -> None:
        self.seen, self.held, self.config = seen, held, config
        self.train = lacking([one.case for one in seen], config.seed)
        self.test = [one.case for one in held]

    def learn(
        self, name: str = "bd", train: Sequence[Case] | None = None, **changed: float
    ) -> MILModel:
        """Return a trained model; BD beside its arguments if they are given."""
        groups = {"groups": GROUPS} if name == "bd" else {}
        torch.manual_seed(self.config.seed)
        model = create_model(name, **SHAPE, **groups, **changed)
        finish(fit(model, self.train if train is None else train, [], self.config))
        return model

    def ask(
        self,
        model: MILModel,
        groups: Sequence[int] | None = None,
        filling: Sequence[Tensor] | None = None,
    ) -> Answers:
        """Return the answers for the held-out patients with their records and without."""
        return finish(ask(model, self.test, groups, filling))


def branches(world: World) -> Figures:
    """Return the figures of BD, of its maps, of the image alone, of no distillation."""
    bd, image, plain = world.learn(), world.learn("abmil"), world.learn(**APART)
    answers = world.ask(bd)
    unclear = np.array([one.ambiguous for one in world.held])
    return {
        "accuracy": accuracy(answers, 0.0),
        "auc": answers.recorded.metrics()["auc"],
        "map_auroc": map_auroc(world.held, lambda one: patch_logits(bd, one)),
        "ceiling": map_auroc(world.held, probe(world.seen)),
        **{f"bd, {rate:.0%}": accuracy(answers, rate) for rate in RATES},
        **sides("bd", answers),
        "bd, only the record tells, 0%": accuracy(answers, 0.0, unclear),
        "bd, only the record tells, 100%": accuracy(answers, 1.0, unclear),
        "bd, blood hidden": accuracy(world.ask(bd, [BLOOD]), 1.0),
        "image only": accuracy(world.ask(image), 0.0),
        **ends("no distillation", world.ask(plain)),
    }


def fillings(world: World) -> Figures:
    """Return the figures of the multi-modal branch with missing groups filled."""
    mean = mean_tokens(world.train)
    zero = tuple(torch.full((width,), ZERO) for width in WIDTHS)
    complete = [case for case in world.train if case.bags[0].clinical.present.all()]
    model = world.learn(train=complete, drop_groups=0.0, **APART)
    figures = {}
    for name, tokens in {"mean fill": mean, "zero fill": zero}.items():
        answers = world.ask(model, filling=tokens)
        figures |= {f"{name}, {rate:.0%}": accuracy(answers, rate) for rate in RATES}
        figures |= sides(name, answers)
    return figures


def ablations(world: World, hinted: World) -> Figures:
    """Return the figures of what is trained otherwise, or where the slide hints at the record."""
    mean = mean_tokens(world.train)
    filled = [fill(case, mean) for case in world.train]
    model = world.learn(train=filled, drop_groups=0.0, **APART)
    return {
        **ends("mean fill in training too", world.ask(model, filling=mean)),
        **ends("no dropping", world.ask(world.learn(drop_groups=0.0))),
        **ends("hinted: bd", hinted.ask(hinted.learn())),
        **ends("hinted: no distillation", hinted.ask(hinted.learn(**APART))),
    }


def ends(name: str, answers: Answers) -> Figures:
    """Return the accuracy with all records and with none."""
    return {f"{name}, {rate:.0%}": accuracy(answers, rate) for rate in (0.0, 1.0)}


def sides(name: str, answers: Answers) -> Figures:
    """Return the accuracy of patients with and without a record, where some lack it."""
    lost = [answers.draw(SHOWN, (0, number)) for number in range(DRAWS)]
    who = {"with": [~one for one in lost], "without": lost}
    return {
        f"{name}, {SHOWN:.0%}, {side}": float(
            np.mean([right(answers, a)[b].mean() for a, b in zip(lost, some, strict=True)])
        )
        for side, some in who.items()
    }


def accuracy(answers: Answers, rate: float, who: NDArray[np.bool_] | slice = slice(None)) -> float:
    """Return the accuracy when this share of the records is hidden, the mean over draws."""
    draws = [answers.draw(rate, (0, number)) for number in range(DRAWS)]
    return float(np.mean([right(answers, lost)[who].mean() for lost in draws]))


def right(answers: Answers, lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whose class is found when the patients in `lost` lost their record."""
    scores = answers.when(lost)
    return (scores.logits.argmax(dim=1) == scores.targets).numpy()


def lacking(cases: Sequence[Case], seed: int) -> list[Case]:
    """Return the cases, a share of them without the blood group."""
    without = np.random.default_rng([seed, 1]).random(len(cases)) < LACKING
    return [hide(case, [BLOOD]) if one else case for case, one in zip(cases, without, strict=True)]


def hint(one: Recorded, seed: int) -> Recorded:
    """Return the patient with lesions that look a little as the record points."""
    direction = np.random.default_rng([seed, 2]).standard_normal(SHAPE["feature_dim"])
    points = torch.cat(one.bag.clinical.values).numpy() @ one.weights
    move = HINT * np.tanh(2 * points) * direction / np.linalg.norm(direction)
    moved = (one.lesions >= 0)[:, None] * move
    bag = replace(one.bag, features=one.bag.features + torch.from_numpy(moved).float())
    return replace(one, case=replace(one.case, bags=(bag,)))


def map_auroc(held: Sequence[Recorded], scores: Callable[[Recorded], NDArray[np.float64]]) -> float:
    """Return the mean AUROC of maps of the true class where the lesion alone decides."""
    clear = [one for one in held if not one.ambiguous]
    return float(np.mean([roc_auc_score(one.truth, scores(one)) for one in clear]))


def patch_logits(model: MILModel, one: Recorded) -> NDArray[np.float64]:
    """Return the map "patch logit" of the true class."""
    with torch.no_grad():
        maps = {found.name: found.scores for found in model(one.bag).explanations}
    return maps[f"patch logit: {one.case.target}"].numpy()


def probe(seen: Sequence[Recorded]) -> Callable[[Recorded], NDArray[np.float64]]:
    """Return a scorer of patches that learned from their kinds, on a part of the patients."""
    x = torch.cat([one.bag.features for one in seen[:PROBED]]).numpy()
    y = np.concatenate([one.lesions for one in seen[:PROBED]])
    learned = LogisticRegression(C=0.1, max_iter=200).fit(x, y)
    columns = {kind: column for column, kind in enumerate(learned.classes_)}
    return lambda one: learned.decision_function(one.bag.features.numpy())[
        :, columns[one.case.target]
    ]
