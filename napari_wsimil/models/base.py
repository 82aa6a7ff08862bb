"""The contract of every model: a Bag in, a MILOutput with its explanations out."""

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
    """What the numbers of a map are; fixes its colormap and limits."""

    ATTENTION = "attention"  # ≥ 0, sums to 1 over its own units
    PROBABILITY = "probability"  # 0–1
    SIGMOID = "sigmoid"  # 0–1, absolute, never re-stretched
    SCORE = "score"  # signed, unbounded
    AMOUNT = "amount"  # ≥ 0, unbounded
    EVIDENCE = "evidence"  # signed, per class
    ORDER = "order"  # 1..T, NaN where never looked


class Need(StrEnum):
    """What a model needs of a bag besides features."""

    PLACES = "places"  # a grid
    RECORD = "record"  # the patient's clinical tokens
    FINER = "finer"  # features of the sub-patches of each patch


@dataclass(frozen=True)
class Explanation:
    """One map of a model over the patches of a bag.

    Attributes
    ----------
    name
        As shown to people, e.g. "attention", "branch 2" (branches count from 1),
        "evidence: 1". Unique in an output.
    kind
        What the numbers are.
    scores
        (N,) one per patch, or (R,) one per region where `index` is given. NaN where there
        is nothing to say, such as attention to what was dropped.
    index
        (N,) which region each patch belongs to; None if scores are per patch.
    class_index
        Which class a map is of, counted from 0 in the order of the logits; `name` then
        ends in ": <class_index>", for a class's name to be put there. None for maps of
        no class.
    family
        What maps have in common that are read side by side, such as "branch"; empty for
        a map that stands alone.
    outlined
        True for a choice of patches or regions, those of a score above 0, which is drawn
        as their outline over other maps.
    absent
        What is said of a patch whose score is NaN.
    unit
        Of a score or an amount; the other kinds have units of their own.
    limit
        Where the color bar of a score or an amount ends, the same on every slide; None to end
        it above the map's own largest.
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
        """Return (N,) scores, each patch with its own or its region's."""
        return self.scores if self.index is None else self.scores[self.index]

    def times_uniform(self) -> Tensor:
        """Return (N,) attention in times of what equal attention would give each unit."""
        return self.per_patch() * (~self.scores.isnan()).sum()


@dataclass(frozen=True)
class MILOutput:
    """All that a forward pass gives, always full.

    Attributes
    ----------
    logits
        (C,) of the slide.
    explanations
        The maps, the main one first. They carry no gradient.
    branches
        Named tensors that the loss needs besides the logits, of shapes that do not depend
        on N, so that `pool` can average the slides of a patient.
    scalars
        Named numbers for people to read.
    class_scalars
        Names of the scalars that read the logits as those of classes.
    trajectory
        The steps of an episode, for models that look step by step.
    """

    logits: Tensor
    explanations: tuple[Explanation, ...]
    branches: dict[str, Tensor] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    class_scalars: frozenset[str] = frozenset()
    trajectory: object | None = None


def check_query(query: Tensor, patches: int) -> None:
    """Raise ValueError unless `query` ((Q,) indices) names some of the patches."""
    if len(query) == 0 or query.min() < 0 or query.max() >= patches:
        raise ValueError(f"query must name some of the patches 0 to {patches - 1}")


class MILModel(nn.Module, ABC):
    """A slide classifier over a bag, with explanations.

    Parameters
    ----------
    feature_dim
        D, the width of the features.
    classes
        C, the number of classes (2 for a binary question).

    Notes
    -----
    `eval()` is deterministic. Constructor arguments of a subclass are all keyword and
    plain numbers or strings, each kept as an attribute of its own name, so that `config`
    can be stored in a checkpoint's card. `self.standardize` z-scores features with the
    training set's statistics, which are part of the weights.

    Attributes
    ----------
    needs
        What a bag must have besides features; `check` refuses one without.
    survives
        Whether its loss takes survival targets, see `criterion`.
    progress
        Share of the training that is done, 0 to 1, kept by `fit`; 1 outside of it. For
        terms that grow in the course of training.
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
        """Return the arguments that make a model of the same shape, defaults included."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @property
    def remark(self) -> str:
        """Return what whoever reads the model's card should know of its making, if anything."""
        return ""

    @property
    def answers_queries(self) -> bool:
        """Return whether `explain` answers for a query."""
        return type(self).explain is not MILModel.explain

    @abstractmethod
    def forward(self, bag: Bag) -> MILOutput:
        """Return the slide's logits and maps; explanations follow the order of the bag."""

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return the named terms whose sum is minimized; `target` as `criterion` takes it."""
        return {"class": criterion(output.logits, target)}

    def pool(self, outputs: Sequence[MILOutput]) -> MILOutput:
        """Return a patient's output of its slides': mean logits and mean branch tensors.

        It has no explanations: a map belongs to one slide.
        """
        if not outputs:
            raise ValueError("there is no slide to pool: a patient needs at least one")
        return MILOutput(
            logits=torch.stack([output.logits for output in outputs]).mean(dim=0),
            explanations=(),
            branches={
                name: torch.stack([output.branches[name] for output in outputs]).mean(dim=0)
                for name in outputs[0].branches
            },
        )

    def explain(self, bag: Bag, query: Tensor | None = None) -> tuple[Explanation, ...]:
        """Return the maps that answer for the patches in `query` ((Q,) indices), if any.

        Models without queries return none for a query, and their maps without one.
        """
        return () if query is not None else self(bag).explanations

    def check(self, bag: Bag) -> None:
        """Raise ValueError if the bag is empty, of another width, or lacks what is needed."""
        if len(bag) == 0:
            raise ValueError("the bag has no patches: is there tissue on the slide?")
        if bag.features.shape[1] != self.feature_dim:
            raise ValueError(
                f"the bag's features have {bag.features.shape[1]} numbers each, "
                f"this model takes {self.feature_dim}: another encoder made them"
            )
        has = {
            Need.PLACES: bag.grid is not None and not bag.grid.made_up,
            Need.RECORD: bag.clinical is not None,
            Need.FINER: bag.finer is not None,
        }
        for need in sorted(self.needs):
            if not has[need]:
                raise ValueError(f"{type(self).__name__} needs {_LACKING[need]}")


_LACKING = {
    Need.PLACES: "places: these features have no coordinates, open the file that has them",
    Need.RECORD: "a clinical record: this bag has none, not even one with all groups missing",
    Need.FINER: "finer features: the bag has none of the sub-patches of its patches",
}
