"""BD: bidirectional distillation between branches (arXiv 2401.01553, BIBM 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput, Need
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, patch_logits
from napari_wsimil.models.losses import criterion
from napari_wsimil.models.protocols import MULTI, SINGLE
from napari_wsimil.models.record_encoder import check_record, parse_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_wsimil.features.bag import Bag, ClinicalTokens

#: Name of the scalar with the divergence of the two branches.
GAP = "what the record changes"
PROMPT_SPREAD = 0.02  # standard deviation of a prompt's initial values


class BD(MILModel):
    """Bidirectional distillation between branches with and without the record.

    Two branches of the same shape share nothing, the multi-modal M and the single-modal S:
    h = ReLU(W x̂ + b), a = softmax(gated attention of h), w = Σ aₙ hₙ,
    u = MLP([w; t₁; …; t_G]), logits l = C u + c. In M the token t_g of a group that the
    record has is an MLP of its fields, and a learnable prompt where the group is missing; in
    S every token is a prompt. A router takes M for a patient with any group and S for one
    with none: its branch gives the slide's logits and the first map.

    The loss is CE(l_M) + CE(l_S) + λ_MS [T² KL(sg softmax(l_M / T) ‖ softmax(l_S / T))
    + MSE(u_S, sg u_M)] + λ_SM MSE(w_M, sg w_S): fused knowledge goes from M to S, image
    features from S to M; sg stops the gradient. All terms except CE(l_S) are 0 for a patient
    without any group. A patient with some groups counts, with prompts in place of the missing
    ones, so that the MLP of a group learns only from patients with that group.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    groups
        The widths F_g of the record's tokens, such as "18,10".
    width
        H, the width of an embedded patch, a token and u.
    attention_dim
        L, the width of the gated attention.
    drop_groups
        The chance that a training pass hides a group from M, so that its prompts are
        trained. A patient counts even if all groups were hidden.
    lam_ms, lam_sm
        λ_MS and λ_SM; both are 0 in the warm-up.
    temperature
        T.
    warm_up
        The share of training without distillation.
    dropout
        Dropout of u before the classifier only: the distilled features have no such noise.

    Notes
    -----
    The paper has one prompt for the whole record, and its sizes, weights and schedule are not
    public: groups, defaults and the level of each distillation are decisions of this
    implementation. For survival the KL is that of the hazards, summed over the bins.

    w is pooled before the record enters, so no attention depends on the record. "attention
    difference" shows the effect of training with records, M minus S in × uniform. The effect of
    this record is in "patch logit: c" and in the scalars: both branches' probabilities (of
    classes; for survival read the logits in `branches`) and, under the name `GAP`, KL(M ‖ S)
    in nats, part of which would exist between any two networks.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.RECORD})
    record_branches: ClassVar[tuple[str, str]] = (MULTI, SINGLE)
    survives: ClassVar[bool] = True

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        groups: str,
        width: int = 256,
        attention_dim: int = 128,
        drop_groups: float = 0.3,
        lam_ms: float = 1.0,
        lam_sm: float = 1.0,
        temperature: float = 2.0,
        warm_up: float = 0.2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if not (0 <= drop_groups < 1 and 0 <= warm_up <= 1 and 0 <= dropout < 1):
            raise ValueError(
                f"drop_groups {drop_groups} and dropout {dropout} must be in [0, 1), "
                f"warm_up {warm_up} in [0, 1]"
            )
        if min(lam_ms, lam_sm) < 0 or temperature <= 0:
            raise ValueError(
                f"lam_ms {lam_ms} and lam_sm {lam_sm} must be ≥ 0, "
                f"temperature {temperature} must be > 0"
            )
        self.groups = groups
        self.width = width
        self.attention_dim = attention_dim
        self.drop_groups = drop_groups
        self.lam_ms = lam_ms
        self.lam_sm = lam_sm
        self.temperature = temperature
        self.warm_up = warm_up
        self.dropout = dropout
        self.widths = parse_groups(groups)
        shape = (feature_dim, len(self.widths), width, attention_dim, classes, dropout)
        self.multi, self.single = Branch(*shape), Branch(*shape)
        self.record = nn.ModuleList(
            nn.Sequential(nn.Linear(fields, width), nn.ReLU(), nn.Linear(width, width))
            for fields in self.widths
        )

    def forward(self, bag: Bag) -> MILOutput:
        """Return routed logits, attention of both branches, patch logits."""
        self.check(bag)
        assert bag.clinical is not None  # checked
        x, known = bag.features, bool(bag.clinical.present.any())
        multi = self.multi(x, self.standardize, self._tokens(bag.clinical))
        single = self.single(x, self.standardize, self.single.prompts)
        branch, routed = (self.multi, multi) if known else (self.single, single)
        scalars = _scalars(multi.logits, single.logits, known)
        return MILOutput(
            logits=routed.logits,
            explanations=(
                *_attention_maps(routed, multi, single),
                *branch.patch_logits(routed),
            ),
            branches={
                "multi-modal": multi.logits,
                "single-modal": single.logits,
                "multi-modal fused": multi.u,
                "single-modal fused": single.u,
                "multi-modal image": multi.w,
                "single-modal image": single.w,
                "has record": routed.logits.new_tensor(float(known)),
            },
            scalars=scalars,
            class_scalars=frozenset(scalars),
        )

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return classification and distillation losses of both branches.

        Terms that need a record are 0 for a patient without one. If only some of a patient's slides
        come with it, they count by that share. In M, Cox's loss of several patients is that of the
        patients with a record.
        """
        b = output.branches  # of several patients with one axis B in front
        known = b["has record"]
        distilled = known * float(self.progress >= self.warm_up)
        kl = self._divergence(b["multi-modal"].detach(), b["single-modal"], target)
        fused = _error(b["single-modal fused"], b["multi-modal fused"].detach())
        image = _error(b["multi-modal image"], b["single-modal image"].detach())
        return {
            "multi-modal": _recorded(b["multi-modal"], target, known),
            "single-modal": criterion(b["single-modal"], target),
            "distillation": self.lam_ms * (distilled * (kl + fused)).mean(),
            "image": self.lam_sm * (distilled * image).mean(),
        }

    def check(self, bag: Bag) -> None:
        """Raise ValueError also if the record has other groups."""
        super().check(bag)
        check_record(bag, self.widths)

    def _divergence(self, teacher: Tensor, student: Tensor, target: Tensor) -> Tensor:
        teacher, student = teacher / self.temperature, student / self.temperature
        if target.ndim != 1:
            return self.temperature**2 * divergence(teacher, student)
        bins = divergence(_or_none(teacher), _or_none(student))  # (C,)
        return self.temperature**2 * bins.sum()

    def _tokens(self, record: ClinicalTokens) -> Tensor:  # (G, H)
        present = record.present.tolist()
        if self.training:
            keep = torch.rand(len(present)) >= self.drop_groups
            present = [one and kept for one, kept in zip(present, keep.tolist(), strict=True)]
        groups = zip(self.record, record.values, present, self.multi.prompts, strict=True)
        return torch.stack(
            [mlp(value.to(prompt)) if known else prompt for mlp, value, known, prompt in groups]
        )


@dataclass(frozen=True)
class View:
    """Intermediate tensors of one branch for a slide."""

    t: Tensor  # (G, H) tokens beside it
    h: Tensor  # (N, H) embedded patches
    a: Tensor  # (N,) attention
    w: Tensor  # (H,) image features, Σ aₙ hₙ
    u: Tensor  # (H,) fused features
    logits: Tensor  # (C,)


class Branch(nn.Module):
    """One branch of `BD`: gated ABMIL with record tokens.

    The pooled slide is fused with the tokens before the classifier.
    """

    def __init__(
        self, dim: int, groups: int, width: int, hidden: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(dim, width)
        self.attention = GatedAttention(width, hidden)
        self.prompts = nn.Parameter(PROMPT_SPREAD * torch.randn(groups, width))
        self.from_image = nn.Linear(width, width)
        self.from_tokens = nn.Linear(groups * width, width, bias=False)
        self.fusion = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, standardize: Callable[[Tensor], Tensor], t: Tensor) -> View:
        """Return the view of a slide.

        `x` are (N, D) patches, `t` (G, H) tokens.
        """
        h = by_rows(lambda part: self.embedding(standardize(part)).relu(), x)  # (N, H)
        a = by_rows(self.attention, h)[:, 0].softmax(dim=0)  # (N,)
        w = a @ h  # (H,)
        u = self.fuse(w, t)  # (H,)
        return View(t, h, a, w, u, self.head(self.dropout(u)))

    def fuse(self, w: Tensor, t: Tensor) -> Tensor:
        """Return (..., H) fused features.

        An MLP with one hidden layer of (..., H) image features `w` and the tokens.
        """
        u: Tensor = self.fusion((self.from_image(w) + self.from_tokens(t.flatten())).relu())
        return u

    @torch.no_grad()
    def patch_logits(self, view: View) -> tuple[Explanation, ...]:
        """Return the maps "patch logit: c" of a view.

        The logit of a slide of patch n alone with the same tokens, minus the mean over classes. The
        fusion is not linear: these do not sum to the slide's logits, so there is no evidence.
        """
        alone = by_rows(lambda part: self.head(self.fuse(part, view.t)), view.h)  # (N, C)
        alone = alone - alone.mean(dim=1, keepdim=True)
        return patch_logits(alone)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(softmax(teacher) ‖ softmax(student)) in nats.

    (...) of (..., C) logits.
    """
    log_p, log_q = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(dim=-1)


def _or_none(logits: Tensor) -> Tensor:
    return torch.stack([logits, torch.zeros_like(logits)], dim=-1)


def _error(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean(dim=-1)


def _recorded(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    if target.ndim == 2:
        return criterion(logits[known > 0], target[known > 0])
    return known * criterion(logits, target)


def _attention_maps(routed: View, multi: View, single: View) -> tuple[Explanation, ...]:
    kind = ExplanationKind.ATTENTION
    return (
        Explanation("attention", kind, routed.a.detach()),
        Explanation("multi-modal attention", kind, multi.a.detach(), family="branch"),
        Explanation("single-modal attention", kind, single.a.detach(), family="branch"),
        Explanation(
            "attention difference",
            ExplanationKind.SCORE,
            len(multi.a) * (multi.a - single.a).detach(),
            unit="× uniform, with − without the record",
        ),
    )


@torch.no_grad()
def _scalars(multi: Tensor, single: Tensor, known: bool) -> dict[str, float]:
    """Return probabilities of both branches and their KL in nats.

    Without a known group, those of S only.
    """
    scalars = _probabilities(SINGLE, single)
    if known:
        scalars |= _probabilities(MULTI, multi)
        scalars[GAP] = divergence(multi, single).item()
    return scalars


def _probabilities(branch: str, logits: Tensor) -> dict[str, float]:
    return {f"{branch}: {c}": p for c, p in enumerate(logits.softmax(dim=0).tolist())}
