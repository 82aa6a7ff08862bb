"""PersAM-live: PersAM with exact updates for edited records."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import torch
import torch.nn.functional as F

from napari_wsimil.features.bag import Bag
from napari_wsimil.models.base import MILOutput, check_query
from napari_wsimil.models.layers.chunked import in_runs, side_by_side
from napari_wsimil.models.persam.common import (
    PersonalAttention,
    Personalized,
    mean_sigmoid,
    personal_maps,
    phi_scalars,
    sigmoid_maps,
)
from napari_wsimil.models.persam.incremental_layer import (
    Mixing,
    Mixture,
    OneLayer,
    Rows,
    read,
    rows_of,
)
from napari_wsimil.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import ClinicalTokens
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.progress import Work

ATTENDED = 1024  # rows of a chunk while a slide is prepared
CACHED = 1024  # rows of a chunk in an edit: their hidden values fit the processor's cache
GATHERED = 256  # the same for scattered rows, which are copied first

#: Attention of a chunk of rows and their Σ w_l h_l (R,).
_Part: TypeAlias = "tuple[PersonalAttention, Tensor]"


class PersAMLive(Personalized):
    """PersAM over a whole slide, updated exactly for edits.

    It has one encoder layer with one head, norms before it and none after: an edit of the record
    then changes each patch by a few numbers, and `prepare` and `edit` compute the new maps of a
    whole slide without repeating attention or products with W₁ and W₂. In contrast to the paper
    the softmax of the encoder runs over the slide and not over bags of 100, so this is another
    model than `PersAM`, to be trained as such; and `values` are of the patches before the
    encoder, a deviation without which attention follows the record on some seeds only.

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
        """Return the source of the values, which may differ from the paper."""
        source = {
            "patch": "patches before the encoder, a deviation from the paper",
            "encoded": "encoded tokens, as in the paper",
        }
        return f"values are of {source[self.values]}"

    def answer(self, x: Tensor, bag: Bag) -> MILOutput:
        """Return the output for patch tokens, in one piece.

        The (N, R) tokens `x` are from `embed`.
        """
        r = self.record_tokens(bag)  # (M, R)
        h = self.encoder(torch.cat([self.tokens.classes, r, x]))  # (C + M + N, R)
        classes, record, patches = h.split([self.classes, len(r), len(x)])
        contents = patches if self.values == "encoded" else x  # (N, R)
        return self.output(*self.aggregator(classes, record, patches, contents))

    def output(self, attention: PersonalAttention, z: Tensor) -> MILOutput:
        """Return the output for a slide's attentions and z.

        `z` is (R,).
        """
        detached = PersonalAttention(
            attention.scores.detach(), attention.psi.detach(), attention.phi.detach()
        )
        return MILOutput(
            logits=self.head(z),
            explanations=personal_maps(detached.classwise, detached.psi, detached.explanatory),
            branches={"best": attention.scores.amax(dim=0)},
            scalars=phi_scalars(detached.phi),
        )

    def prepare(self, bag: Bag) -> Work[PreparedLiveSlide]:
        """Prepare a slide for edits of its record.

        It takes the time of one forward pass. Progress counts rows.
        """
        self.check(bag)
        with torch.no_grad():
            tokens = torch.cat([self.tokens.classes, self.embed(bag)])  # (T, R)
            k, v = self.encoder.keys_values(tokens)
            rows = Rows.empty(tokens, self.feedforward)
        for done in range(0, len(tokens), ATTENDED):
            yield Progress(done, len(tokens))
            piece = slice(done, done + ATTENDED)
            rows.take(piece).put(rows_of(self.encoder, tokens[piece], k, v))
        return PreparedLiveSlide(self, bag.features[:1], rows)


class PreparedLiveSlide:
    """A slide prepared for edits of its record.

    It is valid while the model's weights stay unchanged.

    Parameters
    ----------
    model
        The model that prepared it.
    patch
        (1, D) features of any patch of the slide, to check records with.
    rows
        Class tokens first, then patches.
    """

    def __init__(self, model: PersAMLive, patch: Tensor, rows: Rows) -> None:
        self.model = model
        self.rows = rows
        self._patch = patch

    def edit(self, clinical: ClinicalTokens) -> EditedLiveSlide:
        """Return the slide under another record.

        ValueError for a record of another schema.
        """
        self.model.check(Bag(self._patch, clinical=clinical))
        return EditedLiveSlide(self.model, self.rows, clinical)


class EditedLiveSlide:
    """A slide under an edited record.

    It gives maps of a few patches first, then of all. Both equal the model's own output, up to
    rounding.

    Parameters
    ----------
    model, rows
        Of a `PreparedLiveSlide`.
    clinical
        The edited record.
    """

    @torch.no_grad()
    def __init__(self, model: PersAMLive, rows: Rows, clinical: ClinicalTokens) -> None:
        tokens = model.tokens.record(clinical)  # (M, R)
        self._model = model
        self._rows = rows
        self._mixing = Mixing(model.encoder, tokens)
        identity = torch.eye(model.classes, device=tokens.device)
        classes = self._mixing.of(rows.take(slice(model.classes))).total(identity)  # (C, R)
        record = read(model.encoder, rows, tokens)  # (M, R)
        h = model.encoder.mixed(torch.cat([classes, record]))  # (C + M, R)
        self._u = model.aggregator.looks(h)  # (C + M, R)
        self._u_down = self._u @ model.encoder.down.weight  # (C + M, F)
        self._u_bias = self._u @ model.encoder.down.bias  # (C + M,)
        self._phi = mean_sigmoid(h[model.classes :] @ self._u[: model.classes].T, dim=0)

    @torch.no_grad()
    def maps(self, patches: Tensor) -> tuple[Explanation, ...]:
        """Return the maps of some patches.

        `patches` are (Q,) indices, scores are (Q,). Without "attention", which is a share of
        the whole slide.
        """
        if len(patches):
            check_query(patches, len(self._rows) - self._model.classes)
        pieces = (patches + self._model.classes).split(GATHERED)
        runs = side_by_side(self._through_gathered, in_runs(pieces))
        attention = self._concatenate([one for one, _ in chain.from_iterable(runs)])
        return sigmoid_maps(attention.classwise, attention.psi, attention.explanatory)

    @torch.no_grad()
    def output(self) -> MILOutput:
        """Return the model's output for the whole slide."""
        first, end = self._model.classes, len(self._rows)
        pieces = [slice(at, min(at + CACHED, end)) for at in range(first, end, CACHED)]
        runs = side_by_side(self._through_adjacent, in_runs(pieces))
        parts, contents = zip(*chain.from_iterable(runs), strict=True)
        attention = self._concatenate(parts)
        sums, total = torch.stack(contents).sum(dim=0), attention.weights.sum()
        return self._model.output(attention, self._model.aggregator.pooled(sums, total))

    def _through_gathered(self, pieces: Sequence[Tensor]) -> list[_Part]:
        room = Rows.empty(self._rows.x[:GATHERED], self._model.feedforward)
        return list(self._through(self._rows.gather(piece, room) for piece in pieces))

    def _through_adjacent(self, pieces: Sequence[slice]) -> list[_Part]:
        return list(self._through(self._rows.take(piece) for piece in pieces))

    def _through(self, pieces: Iterable[Rows]) -> Iterator[_Part]:
        """Yield attention and contents of each chunk of rows."""
        room = self._u.new_empty(CACHED, self._model.feedforward)
        for piece in pieces:
            part = self._mixing.of(piece)
            hidden = part.hidden(room)  # (L, F)
            e = part.towards(self._u).addmm_(hidden, self._u_down.T) + self._u_bias
            scores, record = e.split([self._model.classes, len(self._u) - self._model.classes], 1)
            attention = PersonalAttention(scores, mean_sigmoid(record, dim=1), self._phi)
            yield attention, self._contents(part, hidden, attention.weights[None])[0]

    def _contents(self, part: Mixture, hidden: Tensor, w: Tensor) -> Tensor:
        """Return (1, R) Σ w_l h_l, h_l the input of W_v."""
        if self._model.values == "patch":
            return w @ part.rows.x + w @ part.rows.mean_x
        down = self._model.encoder.down
        return part.total(w) + F.linear(w @ hidden, down.weight) + w.sum() * down.bias

    def _concatenate(self, parts: Sequence[PersonalAttention]) -> PersonalAttention:
        scores = torch.cat([part.scores for part in parts])
        return PersonalAttention(scores, torch.cat([part.psi for part in parts]), self._phi)
