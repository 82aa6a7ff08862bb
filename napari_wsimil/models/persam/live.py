"""PersAM-live: PersAM over the whole slide, made to follow an edit of the record at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_wsimil.models.base import MILOutput
from napari_wsimil.models.layers.chunked import by_rows
from napari_wsimil.models.persam.common import (
    PersonalAttention,
    Personalized,
    personal_maps,
    phi_scalars,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.features.bag import Bag


class OneLayer(nn.Module):
    """One pre-norm layer with one head and no norm after it.

    x₁ = x + W_o softmax(q kᵀ/√R) v + b_o with q, k, v of norm₁(x), h = x₁ + FFN(norm₂(x₁)),
    FFN = W₂ GELU(W₁ · + b₁) + b₂. Queries go in pieces: nothing is as large as T × T.

    Parameters
    ----------
    width
        R.
    feedforward
        Width between W₁ and W₂.
    """

    def __init__(self, width: int, feedforward: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # the softmax would not see one
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, R) encoded tokens."""
        k, v = self.keys_values(x)
        return by_rows(lambda rows: self.mixed(self._attended(rows, k, v)), x)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return k and v (T, R) of all tokens."""
        k = by_rows(lambda rows: self.key(self.norm1(rows)), x)
        v = by_rows(lambda rows: self.value(self.norm1(rows)), x)
        return k, v

    def mixed(self, x1: Tensor) -> Tensor:
        """Return h of x₁, row by row."""
        h: Tensor = x1 + self.down(F.gelu(self.up(self.norm2(x1))))
        return h

    def _attended(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = self.query(self.norm1(x))
        o = F.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None])[0, 0]
        x1: Tensor = x + self.out(o)
        return x1


class PersAMLive(Personalized):
    """PersAM on all patches of a slide at once, in the one shape whose update is exact and fast.

    One encoder layer with one head, norms before it and none after: an edit of the record
    then changes each patch by a few numbers, and `explain.live` finds the new maps of a whole
    slide without attending or multiplying by W₁ and W₂ again. Against the paper the softmax
    of the encoder runs over the slide and not over bags of 100, so this is another model than
    `PersAM`, to be trained as such; and `values` are of the patches before the encoder, a
    deviation without which attention follows the record on some seeds only.

    Parameters
    ----------
    feature_dim, classes, groups, width, feedforward, scale, values
        As for `Personalized`.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        classes: int,
        groups: str = "18,10",
        width: int = 64,
        feedforward: int = 256,
        scale: float = 0.0,
        values: str = "patch",
    ) -> None:
        super().__init__(
            feature_dim=feature_dim,
            classes=classes,
            groups=groups,
            width=width,
            feedforward=feedforward,
            scale=scale,
            values=values,
        )
        self.encoder = OneLayer(width, feedforward)

    @property
    def remark(self) -> str:
        """Return where values come from: from patches alone is a deviation from the paper."""
        source = {
            "patch": "patches before they see the record, a deviation from the paper",
            "encoded": "encoded tokens, as in the paper",
        }
        return f"values are of {source[self.values]}"

    def answer(self, x: Tensor, bag: Bag) -> MILOutput:
        """Return the output for tokens of patches from `embed`, in one piece."""
        r = self.record_tokens(bag)  # (M, R)
        h = self.encoder(torch.cat([self.tokens.classes, r, x]))  # (C + M + N, R)
        classes, record, patches = h.split([self.classes, len(r), len(x)])
        contents = patches if self.values == "encoded" else x  # (N, R)
        return self.output(*self.aggregator(classes, record, patches, contents))

    def output(self, attention: PersonalAttention, z: Tensor) -> MILOutput:
        """Return the output of a slide's attentions and its z (R,)."""
        seen = PersonalAttention(
            attention.scores.detach(), attention.psi.detach(), attention.phi.detach()
        )
        return MILOutput(
            logits=self.head(z),
            explanations=personal_maps(seen.classwise, seen.psi, seen.explanatory),
            branches={"best": attention.scores.amax(dim=0)},
            scalars=phi_scalars(seen.phi),
        )
