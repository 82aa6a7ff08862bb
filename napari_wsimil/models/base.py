"""Contract of all models: `Bag` in, `MILOutput` with explanations out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from napari_wsimil.models.layers.standardize import Standardize
from napari_wsimil.models.losses import criterion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class ExplanationKind(StrEnum):
    """Kind of a map's values; fixes its colormap and limits."""

    ATTENTION = "attention"  # ≥ 0, sums to 1 over its own units
    PROBABILITY = "probability"  # 0–1
    SIGMOID = "sigmoid"  # 0–1, absolute, never re-stretched
    SCORE = "score"  # signed, unbounded
    AMOUNT = "amount"  # ≥ 0, unbounded
    EVIDENCE = "evidence"  # signed, per class
    ORDER = "order"  # 1..T, NaN for patches never read


class Need(StrEnum):
    """Requirement of a model on a bag besides features."""

    PLACES = "places"  # a grid
    RECORD = "record"  # the patient's clinical tokens
    FINER = "finer"  # features of the sub-patches of each patch


@dataclass(frozen=True)
class Explanation:
    """One map of a model over a bag's patches.

    An explanation is one number per patch, or per region of patches, that shows how the model
    came to its prediction: attention, evidence for a class, the order in which patches were
    read. `kind` states how to read the numbers, and thereby fixes colormap and limits. For
    example `Explanation("attention", ExplanationKind.ATTENTION, a)` with (N,) `a` that sums to
    1 is drawn as a heat map in which the average patch has the value 1/N.

    Maps that belong together, such as the branches of ACMIL, share a `family` and are shown
    side by side. NaN is no zero: it marks patches for which the model computed no value, and
    `absent` is the label for them.

    Attributes
    ----------
    name
        Label of the map, e.g. "attention", "branch 2" (branches count from 1),
        "evidence: 1". Unique in an output.
    kind
        Kind of the values.
    scores
        (N,) one per patch, or (R,) one per region where `index` is given. NaN where there
        is no value, such as attention to dropped patches.
    index
        (N,) region of each patch; None if scores are per patch.
    class_index
        Class of the map, counted from 0 in the order of the logits; `name` then ends in
        ": <class_index>", to be replaced by the name of the class. None for maps of no class.
    family
        Common name of maps that are compared side by side, such as "branch"; empty for a
        single map.
    outlined
        True for a selection of patches or regions, those with a score above 0; drawn as
        outlines over other maps.
    absent
        Label of a patch with the score NaN.
    unit
        Unit of a score or an amount; the other kinds have units of their own.
    limit
        Upper end of the color bar of a score or an amount, the same on every slide; None to
        end it above the map's own maximum.
    """

    name: str
    kind: ExplanationKind
    scores: Tensor
    index: Tensor | None = None
    class_index: int | None = None
    family: str = ""
    outlined: bool = False
    absent: str = "not looked at"
    unit: str = ""
    limit: float | None = None

    def per_patch(self) -> Tensor:
        """Return (N,) scores; patches of a region share its score."""
        return self.scores if self.index is None else self.scores[self.index]

    def times_uniform(self) -> Tensor:
        """Return (N,) attention relative to uniform attention over all units."""
        return self.per_patch() * (~self.scores.isnan()).sum()


@dataclass(frozen=True)
class MILOutput:
    """Complete output of a forward pass.

    Attributes
    ----------
    logits
        (C,) of the slide.
    explanations
        The maps, the main one first, without gradients.
    branches
        Named tensors that the loss needs besides the logits. Their shapes do not depend on
        N, so that `pool` can average the slides of a patient.
    scalars
        Named numbers to display.
    class_scalars
        Names of the scalars that interpret the logits as class logits.
    trajectory
        The `Trajectory` of a sequential model; None for others.
    """

    logits: Tensor
    explanations: tuple[Explanation, ...]
    branches: dict[str, Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    class_scalars: frozenset[str] = frozenset()
    trajectory: object | None = None


def check_query(query: Tensor, patches: int) -> None:
    """Raise ValueError unless `query` ((Q,) indices) selects existing patches."""
    if len(query) == 0 or query.min() < 0 or query.max() >= patches:
        raise ValueError(f"query must name patches 0 to {patches - 1}")


class MILModel(nn.Module, ABC):
    """Slide classifier over a bag, with explanations.

    Parameters
    ----------
    feature_dim
        D, the width of the features.
    classes
        C, the number of classes (2 for a binary question).

    Notes
    -----
    `eval()` is deterministic. Constructor arguments of a subclass are all keyword and
    plain numbers or strings, each stored as an attribute of the same name, so that `config`
    can be stored in a checkpoint's card. `self.standardize` z-scores features with the
    training set's statistics, which are part of the weights.

    Attributes
    ----------
    needs
        Requirements on a bag besides features; `check` rejects a bag without them.
    survives
        Whether the loss supports survival targets, see `criterion`.
    progress
        Completed share of the training, 0 to 1, set by `fit`; 1 outside of training. For
        loss terms with growing weights during training.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    survives: ClassVar[bool] = False
    progress: float = 1.0

    def __init__(self, *, feature_dim: int, classes: int) -> None:
        super().__init__()
        if feature_dim < 1 or classes < 2:
            raise ValueError(f"feature_dim {feature_dim} must be ≥ 1 and classes {classes} ≥ 2")
        self.feature_dim = feature_dim
        self.classes = classes
        self.standardize = Standardize(feature_dim)

    @property
    def config(self) -> dict[str, int | float | str]:
        """Return the constructor arguments of this model, defaults included."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def remark(self) -> str:
        """Return a note on the model's design for its card.

        Empty for most models.
        """
        return ""

    @property
    def answers_queries(self) -> bool:
        """Return whether `explain` supports a query."""
        return type(self).explain is not MILModel.explain

    @abstractmethod
    def forward(self, bag: Bag) -> MILOutput:
        """Return the slide's logits and maps, in bag order."""

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return the named loss terms; their sum is minimized.

        `target` as in `criterion`.
        """
        return {"class": criterion(output.logits, target)}

    def pool(self, outputs: Sequence[MILOutput]) -> MILOutput:
        """Return a patient's output: mean logits and branches of slides.

        It has no explanations: a map belongs to one slide. ValueError without any slide.
        """
        if not outputs:
            raise ValueError("no slide to pool: a patient needs at least one")
        return MILOutput(
            logits=torch.stack([output.logits for output in outputs]).mean(dim=0),
            explanations=(),
            branches={
                name: torch.stack([output.branches[name] for output in outputs]).mean(dim=0)
                for name in outputs[0].branches
            },
        )

    def explain(self, bag: Bag, query: Tensor | None = None) -> tuple[Explanation, ...]:
        """Return the maps for the patches in `query` ((Q,) indices).

        Without a query these are the maps of `forward`. Models without query maps return an
        empty tuple for a query.
        """
        return () if query is not None else self(bag).explanations

    def check(self, bag: Bag) -> None:
        """Raise ValueError if the model cannot process the bag.

        That is a bag that is empty, has features of another width, or does not meet `needs`.
        """
        if len(bag) == 0:
            raise ValueError("the bag has no patches: check the tissue detection of the slide")
        if bag.features.shape[1] != self.feature_dim:
            raise ValueError(
                f"the bag's features have {bag.features.shape[1]} numbers each, "
                f"this model takes {self.feature_dim}: from another encoder, use the model's"
            )
        available = {
            Need.PLACES: bag.grid is not None and not bag.grid.made_up,
            Need.RECORD: bag.clinical is not None,
            Need.FINER: bag.finer is not None,
        }
        for need in sorted(self.needs):
            if not available[need]:
                raise ValueError(f"{type(self).__name__} needs {_REQUIREMENTS[need]}")


_REQUIREMENTS = {
    Need.PLACES: "places: these features have no coordinates; open the file with coordinates",
    Need.RECORD: "a clinical record: this bag has none; an empty record is enough",
    Need.FINER: "sub-patch features: this bag has none; open the slide with it or extract them",
}
