"""Branches: what a model that is taught with and without records says in either way.

BD has a multi-modal branch M that reads the record and a single-modal S that does not (arXiv
2401.01553); a router takes M where a patient has any group. M less S is what the record
changes, but for what two networks differ by anyway: so M is also asked of a record without
any group, with its prompts in place of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from napari_wsimil.explain.predict import check_encoder, with_record
from napari_wsimil.models.distillation import BD, divergence

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.bags.bag import Bag
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.study.schema import Record

_MULTI, _SINGLE = "multi-modal", "single-modal"


@dataclass(frozen=True)
class Route:
    """Which branch gave the answer, and of which record.

    Attributes
    ----------
    branch
        "multi-modal" or "single-modal".
    present, missing
        Names of the record's groups; for one that is missing its prompt stands in.
    """

    branch: str
    present: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Branches:
    """What both branches say of a slide, as (C,) probabilities.

    Attributes
    ----------
    multi, single
        With the record, and without one.
    blind
        Of the multi-modal branch with all groups missing.
    gap
        KL(multi ‖ single) in nats, the paper's distillation gap.
    own
        KL(multi ‖ blind) in nats: what the record changes within one network.
    """

    multi: Tensor
    single: Tensor
    blind: Tensor
    gap: float
    own: float

    @property
    def change(self) -> Tensor:
        """Return (C,) multi less single."""
        return self.multi - self.single

    @property
    def own_change(self) -> Tensor:
        """Return (C,) multi less blind."""
        return self.multi - self.blind


def route(prediction: Prediction) -> Route | None:
    """Return which branch a prediction came of; None if its model has no such branches."""
    tokens, read = prediction.bag.clinical, prediction.card.record
    if f"{_SINGLE}: 0" not in prediction.scalars or tokens is None or read is None:
        return None
    groups = zip(read.clinical.groups, tokens.present.tolist(), strict=True)
    here = dict(groups)
    present = tuple(name for name, there in here.items() if there)
    missing = tuple(name for name, there in here.items() if not there)
    return Route(_MULTI if present else _SINGLE, present, missing)


def said_by(prediction: Prediction, branch: str) -> Tensor | None:
    """Return (C,) what a branch says as a prediction tells it; None where it says nothing.

    Of a patient without a record the multi-modal branch says nothing; for survival neither
    tells probabilities.
    """
    names = [f"{branch}: {c}" for c in range(len(prediction.card.classes))]
    if prediction.card.survival is not None or names[0] not in prediction.scalars:
        return None
    return torch.tensor([prediction.scalars[name] for name in names])


@torch.inference_mode()
def branches(model: MILModel, card: Card, bag: Bag, record: Record | None) -> Branches:
    """Return what both branches say of a bag under a record; two passes.

    Raises
    ------
    ValueError
        If the model has no such branches, or is of survival, and as `predict`.
    """
    if not isinstance(model, BD) or card.survival is not None:
        raise ValueError(f"{card.model} of {card.task} has no branches with and without a record")
    check_encoder(card, bag)
    model.eval()
    said = model(with_record(card, bag, record)).branches
    assert card.record is not None  # BD reads records
    none = replace(bag, clinical=card.record.tokens(None))
    blind = model(none).branches[_MULTI]
    multi, single = said[_MULTI], said[_SINGLE]
    return Branches(
        multi=multi.softmax(dim=0),
        single=single.softmax(dim=0),
        blind=blind.softmax(dim=0),
        gap=divergence(multi, single).item(),
        own=divergence(multi, blind).item(),
    )
