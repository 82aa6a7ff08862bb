"""What is measured of models that read records, in worlds where the record decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from napari_wsimil.explain.map_shift import movement
from napari_wsimil.models.base import MILModel, MILOutput
from napari_wsimil.progress import finish
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.training.fit import FitConfig

Figures = dict[str, float]
MAP = "explanatory"
LOW, HIGH = 0.3, 0.7  # shares of a' on the lesion pointed away from, and to


class Edited(Protocol):
    """A case whose record can be made to point to lesion 0 or 1; see `Recorded`."""

    case: Case
    lesions: NDArray[np.int64]
    ambiguous: bool

    @property
    def bag(self) -> Bag: ...

    def pointed(self, lesion: int) -> Bag: ...


class RecordOnly(MILModel):
    """A perceptron of the record's tokens that never sees the slide; missing groups are 0.

    Parameters
    ----------
    feature_dim, classes
        As of any model; the features are not used.
    groups
        Widths of the tokens.
    width
        Of the two hidden layers.
    """

    def __init__(self, *, feature_dim: int, classes: int, groups: str, width: int = 64) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        widths = [int(part) for part in groups.split(",")]
        self.groups = groups
        self.width = width
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(sum(widths) + len(widths), width),
            torch.nn.GELU(),
            torch.nn.Linear(width, width),
            torch.nn.GELU(),
            torch.nn.Linear(width, classes),
        )

    def forward(self, bag: Bag) -> MILOutput:
        """Return the logits, without a map."""
        assert bag.clinical is not None
        present = bag.clinical.present.float()
        parts = [value * here for value, here in zip(bag.clinical.values, present, strict=True)]
        return MILOutput(self.layers(torch.cat([*parts, present])), ())


def trained(
    model: MILModel,
    train: Sequence[Edited],
    validation: Sequence[Edited],
    config: FitConfig,
) -> MILModel:
    """Return the model, trained on cases; its weights are chosen on others, if there are any."""
    finish(fit(model, *([one.case for one in part] for part in (train, validation)), config))
    return model


def classified(model: MILModel, test: Sequence[Edited]) -> Figures:
    """Return how well a model does on cases, on those the record decides, and on the others."""
    scores = finish(evaluate(model, [one.case for one in test]))
    right = (scores.probabilities.argmax(dim=1) == scores.targets).numpy()
    ambiguous = np.array([one.ambiguous for one in test])
    return {
        "accuracy": float(right.mean()),
        "auc": scores.metrics()["auc"],
        "accuracy, ambiguous": float(right[ambiguous].mean()),
        "accuracy, clear": float(right[~ambiguous].mean()),
    }


class Turn(NamedTuple):
    """What becomes of a case as its record is turned from lesion 1 to lesion 0.

    `kept` are whether the prediction is as under the case's own record, `right` whether it is
    the case's class, and `follows` whether it is the lesion pointed to, each under both.
    """

    share: tuple[float, float]
    moved: float
    kept: tuple[bool, bool]
    right: tuple[bool, bool]
    follows: tuple[bool, bool]


def edited(model: MILModel, test: Sequence[Edited]) -> Figures:
    """Return what edits of the deciding fields do, on slides they decide and on clear ones."""
    turns = [(one.ambiguous, turned(model, one)) for one in test]
    open_, clear = ([t for ambiguous, t in turns if ambiguous is kind] for kind in (True, False))
    shares = np.array([one.share for one in open_])  # (S, 2), under records to 1 and to 0
    moved = [float(np.median([one.moved for one in part])) for part in (open_, clear)]
    return {
        "hit": float(((shares[:, 0] < LOW) & (shares[:, 1] > HIGH)).mean()),
        "share on 0, to 1": float(shares[:, 0].mean()),
        "share on 0, to 0": float(shares[:, 1].mean()),
        "follows": float(np.mean([one.follows for one in open_])),
        "holds, clear": float(np.mean([one.kept for one in clear])),
        "right after edits, clear": float(np.mean([one.right for one in clear])),
        "moved, ambiguous": moved[0],
        "moved, clear": moved[1],
        "moved, half of ambiguous": moved[0] / 2,
        "ambiguous slides": float(len(open_)),
        "clear slides": float(len(clear)),
    }


@torch.no_grad()
def turned(model: MILModel, one: Edited) -> Turn:
    """Return what becomes of a case as its record is turned from lesion 1 to lesion 0."""
    own, to_one, to_zero = (model.eval()(b) for b in (one.bag, one.pointed(1), one.pointed(0)))
    before, after = (
        next(map_ for map_ in output.explanations if map_.name == MAP)
        for output in (to_one, to_zero)
    )
    said = [int(output.logits.argmax()) for output in (own, to_one, to_zero)]
    return Turn(
        share=(_share(before.scores, one.lesions), _share(after.scores, one.lesions)),
        moved=movement(before, after).moved,
        kept=(said[1] == said[0], said[2] == said[0]),
        right=(said[1] == one.case.label, said[2] == one.case.label),
        follows=(said[1] == 1, said[2] == 0),
    )


def _share(scores: torch.Tensor, lesions: NDArray[np.int64]) -> float:
    """Return Σ a' on lesion 0 / Σ a' on lesions 0 and 1; NaN where there is neither."""
    zero, one = (float(scores.numpy()[lesions == kind].sum()) for kind in (0, 1))
    return zero / (zero + one) if zero + one > 0 else float("nan")
