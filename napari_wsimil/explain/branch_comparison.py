"""Comparison of branches with and without the clinical record.

BD has a multi-modal branch M that reads the record and a single-modal branch S that does not
(arXiv 2401.01553). A router takes M if the patient has any group of the record. The
difference M − S is the effect of the record, plus the difference between two networks. To
separate them, M also runs on a record without any group, with its prompts in place of all.

For survival models the values are those that the card derives from the logits: probabilities
to be without event, or of an event earlier than the median patient's, and the risk.
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
    """Branch behind a prediction, and the record's groups.

    Attributes
    ----------
    branch
        "multi-modal" or "single-modal".
    present, missing
        Names of the record's groups; a prompt replaces each missing group.
    """

    branch: str
    present: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Branches:
    """Predictions of both branches for a slide.

    Attributes
    ----------
    multi, single
        (C,) probabilities of the card's outcomes, with the record and without one.
    blind
        (C,) of the multi-modal branch with all groups missing.
    gap
        KL(multi ‖ single) in nats, the paper's distillation gap; see `divergence_of`.
    own
        KL(multi ‖ blind) in nats: the effect of the record within one network.
    own_risk
        Risk of multi minus that of blind; None for models without survival.
    """

    multi: Tensor
    single: Tensor
    blind: Tensor
    gap: float
    own: float
    own_risk: float | None = None

    @property
    def change(self) -> Tensor:
        """(C,) multi minus single."""
        return self.multi - self.single

    @property
    def own_change(self) -> Tensor:
        """(C,) multi minus blind."""
        return self.multi - self.blind


def route(prediction: Prediction) -> Route | None:
    """Return the branch behind a prediction; None without branches."""
    tokens, format_ = prediction.bag.clinical, prediction.card.record
    if SINGLE not in prediction.branches or tokens is None or format_ is None:
        return None
    groups = zip(format_.clinical.groups, tokens.present.tolist(), strict=True)
    is_present = dict(groups)
    present = tuple(name for name, known in is_present.items() if known)
    missing = tuple(name for name, known in is_present.items() if not known)
    return Route(MULTI if present else SINGLE, present, missing)


def said_by(prediction: Prediction, branch: str) -> Tensor | None:
    """Return (C,) probabilities of a branch; None without the branch.

    They are of the card's outcomes. The multi-modal branch has none for a patient without a
    record.
    """
    logits = _logits(prediction, branch)
    return None if logits is None else prediction.card.chances(logits)


def risk_by(prediction: Prediction, branch: str) -> float | None:
    """Return the risk of a branch, or None; see `Survival.risk`."""
    logits, survival = _logits(prediction, branch), prediction.card.survival
    return None if logits is None or survival is None else survival.risk(logits).item()


def gap_of(prediction: Prediction) -> float | None:
    """Return KL(multi ‖ single) in nats; None without a record.

    See `divergence_of`.
    """
    multi, single = (_logits(prediction, name) for name in (MULTI, SINGLE))
    if multi is None or single is None:
        return None
    return divergence_of(prediction.card, multi, single)


def divergence_of(card: Card, teacher: Tensor, student: Tensor) -> float:
    """Return KL(teacher ‖ student) in nats, of (C,) logits each.

    The card defines the distribution: over the classes; for Cox, over an event earlier or later
    than the median patient's; for discrete hazards h, over the time of the event, which comes in
    bin t with the probability h_t Π_{s<t} (1 - h_s), or in none.
    """
    p, q = (_log_probabilities(card, logits) for logits in (teacher, student))
    return F.kl_div(q, p, log_target=True, reduction="sum").item()


def _log_probabilities(card: Card, logits: Tensor) -> Tensor:
    """Return log-probabilities of mutually exclusive outcomes."""
    if card.survival is None:
        return logits.log_softmax(dim=-1)
    if card.survival.loss == "cox":
        return card.chances(logits).log()
    survived = F.logsigmoid(-logits).cumsum(dim=-1)  # (C,)
    before = torch.cat([survived.new_zeros(1), survived[:-1]])
    return torch.cat([before + F.logsigmoid(logits), survived[-1:]])


def _logits(prediction: Prediction, branch: str) -> Tensor | None:
    tokens = prediction.bag.clinical
    unread = branch == MULTI and (tokens is None or not tokens.present.any())
    return None if unread else prediction.branches.get(branch)


@torch.inference_mode()
def branches(model: MILModel, card: Card, bag: Bag, record: Record | None) -> Branches:
    """Run both branches on a bag, in two passes.

    Raises
    ------
    ValueError
        If the model has no such branches, and as `predict`.
    """
    if not isinstance(model, BranchedModel):
        raise ValueError(f"{card.model} has no branches with and without a record")
    check_encoder(card, bag)
    model.eval()
    outputs = model(with_record(card, bag, record)).branches
    assert card.record is not None  # a branched model reads records
    none = replace(bag, clinical=card.record.tokens(None))
    multi, single, blind = outputs[MULTI], outputs[SINGLE], model(none).branches[MULTI]
    risk = None if card.survival is None else card.survival.risk
    return Branches(
        multi=card.chances(multi),
        single=card.chances(single),
        blind=card.chances(blind),
        gap=divergence_of(card, multi, single),
        own=divergence_of(card, multi, blind),
        own_risk=None if risk is None else (risk(multi) - risk(blind)).item(),
    )
