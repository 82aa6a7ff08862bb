"""Branches: what a model that is taught with and without records says in either way.

BD has a multi-modal branch M that reads the record and a single-modal S that does not (arXiv
2401.01553); a router takes M where a patient has any group. M less S is what the record
changes, but for what two networks differ by anyway: so M is also asked of a record without
any group, with its prompts in place of all. Of survival they say what the card makes of their
logits: chances to be without event, or of one earlier than the median patient's, and the risk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_wsimil.explain.predict import check_encoder, with_record
from napari_wsimil.models.protocols import MULTI, SINGLE, BranchedModel

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card


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
    """What both branches say of a slide, as (C,) probabilities of the card's outcomes.

    Attributes
    ----------
    multi, single
        With the record, and without one.
    blind
        Of the multi-modal branch with all groups missing.
    gap
        KL(multi ‖ single) in nats, the paper's distillation gap; see `divergence_of`.
    own
        KL(multi ‖ blind) in nats: what the record changes within one network.
    own_risk
        Risk of multi less that of blind; None where the model is not of survival.
    """

    multi: Tensor
    single: Tensor
    blind: Tensor
    gap: float
    own: float
    own_risk: float | None = None

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
    if SINGLE not in prediction.branches or tokens is None or read is None:
        return None
    groups = zip(read.clinical.groups, tokens.present.tolist(), strict=True)
    here = dict(groups)
    present = tuple(name for name, there in here.items() if there)
    missing = tuple(name for name, there in here.items() if not there)
    return Route(MULTI if present else SINGLE, present, missing)


def said_by(prediction: Prediction, branch: str) -> Tensor | None:
    """Return (C,) probabilities of the card's outcomes as a branch has them; None if it has none.

    Of a patient without a record the multi-modal branch says nothing.
    """
    logits = _logits(prediction, branch)
    return None if logits is None else prediction.card.chances(logits)


def risk_by(prediction: Prediction, branch: str) -> float | None:
    """Return the risk as a branch has it, see `Survival.risk`; None where it has none."""
    logits, survival = _logits(prediction, branch), prediction.card.survival
    return None if logits is None or survival is None else survival.risk(logits).item()


def gap_of(prediction: Prediction) -> float | None:
    """Return KL(multi ‖ single) in nats, see `divergence_of`; None without a record."""
    multi, single = (_logits(prediction, name) for name in (MULTI, SINGLE))
    if multi is None or single is None:
        return None
    return divergence_of(prediction.card, multi, single)


def divergence_of(card: Card, teacher: Tensor, student: Tensor) -> float:
    """Return KL(teacher ‖ student) in nats, of (C,) logits each, as the card reads them.

    It is of classes; for Cox of an event earlier or later than the median patient's; for
    discrete hazards h of when the event comes, in bin t with the probability
    h_t Π_{s<t} (1 - h_s), or in none.
    """
    p, q = (_log_chances(card, logits) for logits in (teacher, student))
    return F.kl_div(q, p, log_target=True, reduction="sum").item()


def _log_chances(card: Card, logits: Tensor) -> Tensor:
    """Return the logarithms of the probabilities of what cannot come together."""
    if card.survival is None:
        return logits.log_softmax(dim=-1)
    if card.survival.loss == "cox":
        return card.chances(logits).log()
    lived = F.logsigmoid(-logits).cumsum(dim=-1)  # (C,)
    before = torch.cat([lived.new_zeros(1), lived[:-1]])
    return torch.cat([before + F.logsigmoid(logits), lived[-1:]])


def _logits(prediction: Prediction, branch: str) -> Tensor | None:
    tokens = prediction.bag.clinical
    unread = branch == MULTI and (tokens is None or not tokens.present.any())
    return None if unread else prediction.branches.get(branch)


@torch.inference_mode()
def branches(model: MILModel, card: Card, bag: Bag, record: Record | None) -> Branches:
    """Return what both branches say of a bag under a record; two passes.

    Raises
    ------
    ValueError
        If the model has no such branches, and as `predict`.
    """
    if not isinstance(model, BranchedModel):
        raise ValueError(f"{card.model} has no branches with and without a record")
    check_encoder(card, bag)
    model.eval()
    said = model(with_record(card, bag, record)).branches
    assert card.record is not None  # a branched model reads records
    none = replace(bag, clinical=card.record.tokens(None))
    multi, single, blind = said[MULTI], said[SINGLE], model(none).branches[MULTI]
    risk = None if card.survival is None else card.survival.risk
    return Branches(
        multi=card.chances(multi),
        single=card.chances(single),
        blind=card.chances(blind),
        gap=divergence_of(card, multi, single),
        own=divergence_of(card, multi, blind),
        own_risk=None if risk is None else (risk(multi) - risk(blind)).item(),
    )
