"""VIB: information bottleneck before pooling (Li et al., CVPR 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.layers.pooling import GatedAttention, LinearHead

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.slides.patch_grid import PatchGrid

DIGITS = 5  # decimals; beyond, u depends on a patch's row in a matrix product


class VIB(MILModel):
    """Attention pooling of the few patches that pass a bottleneck.

    h = ReLU(W x̂ + b), u = w·h + w₀, π = sigmoid(u). In training the mask m of a patch is
    the mean of S samples of the relaxed Bernoulli of logit u and temperature τ
    (reparameterized: sigmoid((u + ℓ) / τ), ℓ logistic), and gated attention pools the
    masked patches m h of the whole slide. The loss is the cross-entropy and
    β times the information of the mask, the mean over the patches of
    KL(Bern(π) ‖ Bern(r)) = π log(π / r) + (1 - π) log((1 - π) / (1 - r)).

    In `eval()` nothing is sampled: the K patches of the largest π are kept, m is π, and
    attention is a softmax over the kept patches alone.

    Parameters
    ----------
    feature_dim, classes
        D and C.
    width
        H, the width of an embedded patch.
    attention_dim
        L, the width of the gated attention.
    keep
        K, the number of patches kept outside training; all of a slide with fewer patches.
        Where u is equal, to `DIGITS` digits, the upper and then the left patch comes
        first, so that the same K are kept in any order of the bag; without a grid
        the first in the bag.
    prior
        r, the share of patches that pass under the prior.
    beta
        β, the weight of the information.
    warm_up
        Share of the training in which that weight rises from 0 to β. With β from the
        start the prior may close every mask before the classes can open one.
    samples
        S.
    temperature
        τ.
    info
        "kl" is the paper's; "mean_mse" is (mean π - r)², as in the authors' program,
        which constrains the share of passing patches but not each patch.

    Notes
    -----
    Where the authors' program differs from their paper the paper is followed: the logit of
    the mask is u, not log π, samples carry a gradient, and `eval()` samples nothing. There
    the program keeps patches unweighted; here they are weighted by π, the mean of their
    training mask, so that a slide of fewer than K patches is processed as in training.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        width: int = 256,
        attention_dim: int = 128,
        keep: int = 512,
        prior: float = 0.1,
        beta: float = 0.1,
        warm_up: float = 0.5,
        samples: int = 4,
        temperature: float = 0.1,
        info: str = "kl",
    ) -> None:
        super().__init__(feature_dim=feature_dim, classes=classes)
        if keep < 1 or samples < 1 or beta < 0 or temperature <= 0:
            raise ValueError(
                f"keep {keep} and samples {samples} must be ≥ 1, "
                f"beta {beta} ≥ 0 and temperature {temperature} > 0"
            )
        if not 0 < prior < 1 or not 0 <= warm_up <= 1:
            raise ValueError(f"prior {prior} must be between 0 and 1, warm_up {warm_up} in [0, 1]")
        if info not in ("kl", "mean_mse"):
            raise ValueError(f'info must be "kl" or "mean_mse", not "{info}"')
        self.width = width
        self.attention_dim = attention_dim
        self.keep = keep
        self.prior = prior
        self.beta = beta
        self.warm_up = warm_up
        self.samples = samples
        self.temperature = temperature
        self.info = info
        self.embedding = nn.Linear(feature_dim, width)
        self.selection = nn.Linear(width, 1)
        self.attention = GatedAttention(width, attention_dim)
        self.head = LinearHead(width, classes)

    def forward(self, bag: Bag) -> MILOutput:
        """Return logits, π, kept patches, attention and the head's maps.

        "selection" is π. "kept" is 1 for the pooled patches and 0 for the dropped ones.
        "attention" sums to 1 over the kept and is NaN for the dropped patches, which are not
        pooled; their "evidence" is 0, their contribution to the logit. The "patch logit" of every
        patch is that of a slide of this patch alone.
        """
        self.check(bag)
        h = by_rows(self._embed, bag.features)  # (N, H)
        u = by_rows(self.selection, h)[:, 0]  # (N,)
        pi = u.sigmoid()  # (N,)
        m = self._draw(u) if self.training else pi  # (N,)
        h = m[:, None] * h  # (N, H)
        kept = torch.arange(len(h)) if self.training else self._top(u, bag.grid)  # (K,)
        kept = kept.to(h.device)
        e = by_rows(self.attention, h[kept])[:, 0]  # (K,)
        a = e.softmax(dim=0)  # (K,)
        return MILOutput(
            logits=self.head(a @ h[kept]),
            explanations=(
                *_selection_maps(pi.detach(), a.detach(), kept),
                *self.head.maps(h, _spread(a.detach(), kept, len(h), 0.0)),
            ),
            branches={"information": self._information(u)},
            scalars={"kept": float(len(kept)), "mean selection": pi.mean().item()},
        )

    def loss(self, output: MILOutput, target: Tensor) -> dict[str, Tensor]:
        """Return the class loss and the weighted information."""
        ramp = min(1.0, self.progress / self.warm_up) if self.warm_up else 1.0
        information = ramp * self.beta * output.branches["information"]
        return super().loss(output, target) | {"information": information}

    @torch.no_grad()
    def select(self, bag: Bag) -> Tensor:
        """Return (min(K, N),) int64, the kept patches, in bag order."""
        self.check(bag)
        u = by_rows(lambda x: self.selection(self._embed(x)), bag.features)[:, 0]  # (N,)
        return self._top(u, bag.grid)

    def _embed(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(self.standardize(x)).relu()
        return h

    def _draw(self, u: Tensor) -> Tensor:
        tiny = torch.finfo(u.dtype).eps
        noise = torch.rand(self.samples, len(u), dtype=u.dtype, device=u.device)  # (S, N)
        logistic = noise.clamp(tiny, 1 - tiny).logit()  # (S, N)
        return ((u + logistic) / self.temperature).sigmoid().mean(dim=0)

    def _top(self, u: Tensor, grid: PatchGrid | None) -> Tensor:
        score = u.detach().double().cpu().numpy().round(DIGITS)
        places = () if grid is None else (grid.coords[:, 0], grid.coords[:, 1])
        order = np.lexsort((*places, -score))  # by the last key, then the one before it, …
        return torch.from_numpy(np.sort(order[: self.keep]))

    def _information(self, u: Tensor) -> Tensor:
        pi = u.sigmoid()  # (N,)
        if self.info == "mean_mse":
            return (pi.mean() - self.prior).square()
        passes = F.logsigmoid(u) - math.log(self.prior)  # (N,) log(π / r)
        stops = F.logsigmoid(-u) - math.log(1 - self.prior)  # (N,) log((1 - π) / (1 - r))
        return (pi * passes + (1 - pi) * stops).mean()


def _selection_maps(pi: Tensor, a: Tensor, kept: Tensor) -> tuple[Explanation, ...]:
    selection = _spread(torch.ones_like(a), kept, len(pi), 0.0)
    attention = _spread(a, kept, len(pi), math.nan)
    return (
        Explanation("selection", ExplanationKind.PROBABILITY, pi),
        Explanation("kept", ExplanationKind.PROBABILITY, selection, outlined=True),
        Explanation("attention", ExplanationKind.ATTENTION, attention, absent="dropped"),
    )


def _spread(values: Tensor, index: Tensor, count: int, rest: float) -> Tensor:
    """Return (count,) with `values` at `index` and `rest` elsewhere."""
    return values.new_full((count,), rest).index_copy(0, index, values)
