"""BD: two branches, with and without the record, teach each other (arXiv 2401.01553, BIBM 2023)."""

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

#: The branches, with the record and without, and the scalar that tells how far they differ.
GAP = "what the record changes"
PROMPT_SPREAD = 0.02  # standard deviation of a prompt's first numbers


class BD(MILModel):
    """Bidirectional distillation: a slide classified beside its record, or without one.

    Two branches of the same shape share nothing, the multi-modal M and the single-modal S:
    h = ReLU(W x̂ + b), a = softmax(gated attention of h), w = Σ aₙ hₙ,
    u = MLP([w; t₁; …; t_G]), logits l = C u + c. In M the token t_g of a group that the
    record has is an MLP of its fields, and a learnable prompt where the group is missing; in
    S every token is a prompt. A router takes M for a patient with any group and S for one
    with none: its branch gives the slide's logits and the first map.

    The loss is CE(l_M) + CE(l_S) + λ_MS [T² KL(sg softmax(l_M / T) ‖ softmax(l_S / T))
    + MSE(u_S, sg u_M)] + λ_SM MSE(w_M, sg w_S): fused knowledge goes from M to S, image
    features from S to M; sg stops the gradient. All but CE(l_S) is 0 for a patient who has no
    group. One who has some groups counts, with prompts in place of the others, so that
    the MLP of a group learns only from patients who have it.

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
        The chance that a pass of training hides a group from M, which then learns what
        its prompts are for. A patient whose groups were all hidden still counts.
    lam_ms, lam_sm
        λ_MS and λ_SM; both are 0 in the warm-up.
    temperature
        T.
    warm_up
        The share of training without distillation.
    dropout
        Of u, in front of the classifier alone: what is distilled has no such noise.

    Notes
    -----
    The paper has one prompt for the whole record and its sizes, weights and schedule are
    not public: groups, defaults and the level of each distillation are ours. For survival
    the KL is of the hazards, summed over the bins.

    w is pooled before the record comes in: no attention here depends on what the record
    says. "attention difference" is what training with records changed, M less S in × uniform.
    What this record changes is in "patch logit: c" and in the scalars: both branches'
    probabilities (of classes; for survival read the logits in `branches`) and, as "what the
    record changes", KL(M ‖ S) in nats, of which some is that two networks differ anyway.
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
                f"lam_ms {lam_ms} and lam_sm {lam_sm} must not be below 0, "
                f"temperature {temperature} must be above it"
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
        """Return the routed branch's logits, attention of both branches, patch logits."""
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
        """Return both branches' losses and what they distil, fused and image features.

        Terms that need a record are 0 for a patient without one. Where only some of a
        patient's slides come with it, they count by the share that do. Cox's loss of
        several patients is, in M, that of those with a record.
        """
        b = output.branches  # of several patients with one axis B in front
        known = b["has record"]
        taught = known * float(self.progress >= self.warm_up)
        kl = self._divergence(b["multi-modal"].detach(), b["single-modal"], target)
        fused = _error(b["single-modal fused"], b["multi-modal fused"].detach())
        image = _error(b["multi-modal image"], b["single-modal image"].detach())
        return {
            "multi-modal": _recorded(b["multi-modal"], target, known),
            "single-modal": criterion(b["single-modal"], target),
            "distillation": self.lam_ms * (taught * (kl + fused)).mean(),
            "image": self.lam_sm * (taught * image).mean(),
        }

    def check(self, bag: Bag) -> None:
        """Raise ValueError as every model does, and if the record has other groups."""
        super().check(bag)
        check_record(bag, self.widths)

    def _divergence(self, teacher: Tensor, student: Tensor, target: Tensor) -> Tensor:
        teacher, student = teacher / self.temperature, student / self.temperature
        if target.ndim != 1:
            return self.temperature**2 * divergence(teacher, student)
        bins = divergence(_or_none(teacher), _or_none(student))  # (C,)
        return self.temperature**2 * bins.sum()

    def _tokens(self, record: ClinicalTokens) -> Tensor:  # (G, H)
        seen = record.present.tolist()
        if self.training:
            kept = torch.rand(len(seen)) >= self.drop_groups
            seen = [here and keep for here, keep in zip(seen, kept.tolist(), strict=True)]
        groups = zip(self.record, record.values, seen, self.multi.prompts, strict=True)
        return torch.stack(
            [mlp(value.to(prompt)) if here else prompt for mlp, value, here, prompt in groups]
        )


@dataclass(frozen=True)
class View:
    """A slide as one branch sees it."""

    t: Tensor  # (G, H) tokens beside it
    h: Tensor  # (N, H) embedded patches
    a: Tensor  # (N,) attention
    w: Tensor  # (H,) image features, Σ aₙ hₙ
    u: Tensor  # (H,) fused features
    logits: Tensor  # (C,)


class Branch(nn.Module):
    """A gated ABMIL whose pooled slide is fused with tokens: one branch of `BD`."""

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
        """Return the view of (N, D) patches beside (G, H) tokens."""
        h = by_rows(lambda part: self.embedding(standardize(part)).relu(), x)  # (N, H)
        a = by_rows(self.attention, h)[:, 0].softmax(dim=0)  # (N,)
        w = a @ h  # (H,)
        u = self.fuse(w, t)  # (H,)
        return View(t, h, a, w, u, self.head(self.dropout(u)))

    def fuse(self, w: Tensor, t: Tensor) -> Tensor:
        """Return (..., H), an MLP with one hidden layer of (..., H) and the tokens."""
        u: Tensor = self.fusion((self.from_image(w) + self.from_tokens(t.flatten())).relu())
        return u

    @torch.no_grad()
    def patch_logits(self, view: View) -> tuple[Explanation, ...]:
        """Return "patch logit: c" per class, that of a slide of patch n alone beside the tokens.

        Less the mean of the classes. The fusion is not linear: these do not add up to the
        slide's logits, and no evidence is given.
        """
        alone = by_rows(lambda part: self.head(self.fuse(part, view.t)), view.h)  # (N, C)
        alone = alone - alone.mean(dim=1, keepdim=True)
        return patch_logits(alone)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(softmax(teacher) ‖ softmax(student)) (...) of (..., C) logits, in nats."""
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
            unit="× uniform, with less without the record",
        ),
    )


@torch.no_grad()
def _scalars(multi: Tensor, single: Tensor, known: bool) -> dict[str, float]:
    """Return probabilities of both branches and their KL in nats; of S alone if none is known."""
    scalars = _probabilities(SINGLE, single)
    if known:
        scalars |= _probabilities(MULTI, multi)
        scalars[GAP] = divergence(multi, single).item()
    return scalars


def _probabilities(branch: str, logits: Tensor) -> dict[str, float]:
    return {f"{branch}: {c}": p for c, p in enumerate(logits.softmax(dim=0).tolist())}
