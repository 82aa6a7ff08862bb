"""Shared parts of PersAM's variants (Hanada et al. 2022, arXiv 2206.03003)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput, Need
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.record_encoder import check_record, parse_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag, ClinicalTokens

EPS = 1e-6  # added to each a', a product of three sigmoids, before the normalization
CERTAIN, DOUBT = 0.95, 0.05  # smoothed targets of "this class is somewhere on the slide"


@dataclass(frozen=True)
class PersonalAttention:
    """The paper's attentions for patches L and classes C.

    Further axes in front are those of bags.

    Attributes
    ----------
    scores
        (..., L, C), q_c·k_l before the sigmoid.
    psi
        (..., L) ψ, relevance of each patch for this record; 1 without a record.
    phi
        (..., C) φ, weight of this record for each class; 1 without a record.
    """

    scores: Tensor
    psi: Tensor
    phi: Tensor

    @property
    def classwise(self) -> Tensor:
        """Return a_{l,c} = σ(q_c·k_l), (..., L, C)."""
        return self.scores.sigmoid()

    @property
    def explanatory(self) -> Tensor:
        """Return a'_{l,c} = a_{l,c} φ_c ψ_l, (..., L, C)."""
        return self.classwise * self.phi[..., None, :] * self.psi[..., None]

    @property
    def weights(self) -> Tensor:
        """Return the pooling weights, a'_l = max_c a'_{l,c} plus `EPS`."""
        return self.explanatory.amax(dim=-1) + EPS


class Tokens(nn.Module):
    """Input tokens of the encoder: classes, record groups, patches.

    Patches and each group have a type embedding added, classes none; there is no positional
    encoding.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    widths
        F_g of each group of the record.
    width
        R, of a token.
    """

    def __init__(self, feature_dim: int, classes: int, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.patch = _mlp(feature_dim, 2 * width, width)
        self.groups = nn.ModuleList(_mlp(fields, width, width) for fields in widths)
        self.classes = nn.Parameter(0.5 * torch.randn(classes, width))
        self.patch_type = nn.Parameter(0.02 * torch.randn(width))
        self.group_types = nn.Parameter(0.02 * torch.randn(len(widths), width))

    def patches(self, x: Tensor) -> Tensor:
        """Return (N, R) tokens of (N, D) standardized features."""
        p: Tensor = self.patch(x) + self.patch_type
        return p

    def record(self, clinical: ClinicalTokens) -> Tensor:
        """Return the tokens of the present groups.

        They are (M, R); M may be 0. A missing group has no token, so neither encoder nor means
        include it.
        """
        tokens = [
            group(value.to(kind)) + kind
            for group, value, kind, present in zip(
                self.groups, clinical.values, self.group_types, clinical.present, strict=True
            )
            if present
        ]
        return torch.stack(tokens) if tokens else self.classes[:0]


class Aggregator(nn.Module):
    """The paper's five equations, from encoded tokens to z.

    a_{l,c} = σ(q_c·k_l), ψ_l = mean_m σ(q_m·k_l), φ_c = mean_m σ(q_c·k_m),
    a'_{l,c} = a_{l,c} φ_c ψ_l, z = Σ_l (a'_l / Σ_ρ a'_ρ) v_l with a'_l = max_c a'_{l,c}.
    All tokens share one W_q, W_k and W_v. Products are scaled before the sigmoid.

    Parameters
    ----------
    width
        R.
    scale
        Factor of q·k; 0 stands for 1/√R.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.factor = scale or width**-0.5
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)

    def forward(
        self, classes: Tensor, record: Tensor, patches: Tensor, contents: Tensor
    ) -> tuple[PersonalAttention, Tensor]:
        """Return the attentions and z (..., R).

        Parameters
        ----------
        classes, record, patches
            Encoded tokens, (..., C, R), (..., M, R) and (..., L, R).
        contents
            (..., L, R), input of W_v for the values.
        """
        attention = PersonalAttention(
            scores=patches @ self.looks(classes).mT,  # (..., L, C)
            psi=mean_sigmoid(patches @ self.looks(record).mT, dim=-1),  # (..., L)
            phi=mean_sigmoid(record @ self.looks(classes).mT, dim=-2),  # (..., C)
        )
        w = attention.weights  # (..., L)
        sums = (w[..., None, :] @ contents)[..., 0, :]  # (..., R)
        return attention, self.pooled(sums, w.sum(dim=-1))

    def looks(self, tokens: Tensor) -> Tensor:
        """Return u (..., T, R), queries projected to token space.

        The scaled q_t·k_l is u_t·h_l for every h_l.
        """
        u: Tensor = self.factor * self.query(tokens) @ self.key.weight
        return u

    def pooled(self, sums: Tensor, total: Tensor) -> Tensor:
        """Return z from weighted sums and the total weight.

        `sums` is Σ w_l h_l (..., R), `total` is Σ w_l (...).
        """
        z: Tensor = self.value(sums / total[..., None])
        return z


class Personalized(MILModel):
    """Base class of PersAM's variants: tokens, equations, loss and maps.

    The record comes as M ≥ 1 groups of fields, one token each; missing groups are left out of
    the encoder and of both means, and without any group φ = ψ = 1, an extension of the paper,
    in which no group is missing. Not fixed by the paper and decided here: the scaling of q·k,
    the encoder's shape, and the form of the loss for "a slide is of a class if any patch is":
    the binary cross-entropy of max_l a_{l,c}, with the paper's smoothed targets .95 and .05,
    which do not sum to 1 and are therefore used in this term alone.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    groups
        Widths of the record's tokens, such as "18,10".
    width
        R, of a token; 512 in the paper.
    feedforward
        Width inside the encoder's layers.
    scale
        Factor of q·k before the sigmoid: 0 stands for 1/√R, 1 is the paper as written, with
        sigmoids that start saturated at R = 512.
    values
        "encoded" takes the values v from the encoded patches, as in the paper's equation: the
        record can then reach the prediction inside v without a change of attention.
        "patch", a deviation, takes them from the patches before the encoder: the record then
        changes the prediction only through attention.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.RECORD})

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        groups: str,
        width: int,
        feedforward: int,
        scale: float,
        values: str,
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if min(width, feedforward) < 1 or scale < 0:
            raise ValueError(
                f"width {width} and feedforward {feedforward} must be ≥ 1, scale {scale} ≥ 0"
            )
        if values not in ("patch", "encoded"):
            raise ValueError(f'values must be "patch" or "encoded", not "{values}"')
        self.groups = groups
        self.width = width
        self.feedforward = feedforward
        self.scale = scale
        self.values = values
        self.tokens = Tokens(feature_dim, classes, parse_groups(groups), width)
        self.aggregator = Aggregator(width, scale)
        self.head = nn.Linear(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, maps, and each class's φ as a scalar.

        "attention" is a'_l as a share of the slide's sum, "explanatory" a'_l itself,
        "exploratory" ψ_l, "class-wise: c" a_{l,c} and "explanatory: c" a'_{l,c}.
        """
        self.check(bag)
        return self.answer(self.embed(bag), bag)

    def check(self, bag: Bag) -> None:
        """Raise ValueError also if the record is of another schema."""
        super().check(bag)
        check_record(bag, parse_groups(self.groups))

    def embed(self, bag: Bag) -> Tensor:
        """Return the patches' tokens (N, R), independent of the record."""
        return by_rows(lambda x: self.tokens.patches(self.standardize(x)), bag.features)

    @abstractmethod
    def answer(self, x: Tensor, bag: Bag) -> MILOutput:
        """Return the output for (N, R) patch tokens `x`.

        `x` is from `embed`; the record is that of `bag`.
        """

    def record_tokens(self, bag: Bag) -> Tensor:
        """Return (M, R) tokens of the record's present groups."""
        assert bag.clinical is not None  # see `check`
        return self.tokens.record(bag.clinical)

    def pool(self, outputs: Sequence[MILOutput]) -> MILOutput:
        """Return a patient's output, with all slides' best patch.

        A patient is positive for a class if any patch of any slide is: "best" is the maximum over
        slides. Logits are averaged.
        """
        pooled = super().pool(outputs)
        best = torch.stack([output.branches["best"] for output in outputs]).amax(dim=0)  # (C,)
        return replace(pooled, branches={"best": best})

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return CE(slide), and the mean BCE of classes' best patches."""
        score = output.branches["best"]  # (C,)
        smoothed = torch.full_like(score, DOUBT).index_fill_(0, target, CERTAIN)
        best = F.binary_cross_entropy_with_logits(score, smoothed)
        return {**super().loss(output, target), "best": best}


def mean_sigmoid(scores: Tensor, dim: int) -> Tensor:
    """Return mean sigmoids over an axis of present groups.

    1 if there are no groups.
    """
    if scores.shape[dim] == 0:
        return torch.ones_like(scores.sum(dim=dim))
    return scores.sigmoid().mean(dim=dim)


def personal_maps(classwise: Tensor, psi: Tensor, explanatory: Tensor) -> tuple[Explanation, ...]:
    """Return all maps of a slide.

    They show the share of a'_l, then a_{l,c} (N, C), ψ_l (N,) and a'_{l,c} (N, C).
    """
    whole = explanatory.amax(dim=1)  # (N,)
    w = whole + EPS
    return (
        Explanation("attention", ExplanationKind.ATTENTION, w / w.sum()),
        *sigmoid_maps(classwise, psi, explanatory),
    )


def sigmoid_maps(classwise: Tensor, psi: Tensor, explanatory: Tensor) -> tuple[Explanation, ...]:
    """Return the absolute maps of `personal_maps`.

    They are the same for any subset of the patches.
    """
    kind = ExplanationKind.SIGMOID
    return (
        Explanation("explanatory", kind, explanatory.amax(dim=1)),
        Explanation("exploratory", kind, psi),
        *(
            Explanation(f"{name}: {c}", kind, column.contiguous(), class_index=c, family=name)
            for name, columns in (("class-wise", classwise), ("explanatory", explanatory))
            for c, column in enumerate(columns.T)
        ),
    )


def phi_scalars(phi: Tensor) -> dict[str, float]:
    """Return φ (C,) by name, "phi: c" for class c."""
    return {f"phi: {c}": value for c, value in enumerate(phi.tolist())}


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
