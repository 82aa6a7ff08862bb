"""Clinical records hidden from a model, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from napari_wsimil.features.bag import ClinicalTokens
from napari_wsimil.training.evaluation import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.progress import Work
    from napari_wsimil.training.evaluation import Scores

RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # shares of patients whose record is hidden

Change = Callable[[ClinicalTokens], ClinicalTokens]


@dataclass(frozen=True)
class ChangedBags(Sequence["Bag"]):
    """The bags of a patient with its record changed, each when it is asked for."""

    bags: Sequence[Bag]
    change: Change

    def __len__(self) -> int:
        return len(self.bags)

    @overload
    def __getitem__(self, index: int) -> Bag: ...
    @overload
    def __getitem__(self, index: slice) -> ChangedBags: ...
    def __getitem__(self, index: int | slice) -> Bag | ChangedBags:
        if isinstance(index, slice):
            return ChangedBags(self.bags[index], self.change)
        bag = self.bags[index]
        return bag if bag.clinical is None else replace(bag, clinical=self.change(bag.clinical))


def hide(case: Case, groups: Sequence[int] | None = None) -> Case:
    """Return the case with these groups of its record missing, all if None."""
    return replace(case, bags=ChangedBags(case.bags, partial(_hidden, groups=groups)))


def fill(case: Case, tokens: Sequence[Tensor]) -> Case:
    """Return the case with `tokens` ((F_g,) each) in place of missing groups, as if known."""
    return replace(case, bags=ChangedBags(case.bags, partial(_filled, tokens=tuple(tokens))))


def mean_tokens(cases: Iterable[Case]) -> tuple[Tensor, ...]:
    """Return, for each group, the mean token of the patients who have it, for `fill`.

    Raises
    ------
    ValueError
        If no patient has some group, or there is no record at all.
    """
    records = [record for record in _records(cases) if record is not None]
    if not records:
        raise ValueError("no patient has a record: there is no mean to fill with")
    return tuple(_mean_token(records, g) for g in range(len(records[0].values)))


@dataclass(frozen=True)
class Answers:
    """What a model says of patients as they were recorded, and with groups hidden.

    Attributes
    ----------
    recorded, hidden
        Scores of the same P patients, before and after.
    has
        (P,) bool, whether a patient has any of the groups that are hidden.
    """

    recorded: Scores
    hidden: Scores
    has: NDArray[np.bool_]

    def when(self, lost: NDArray[np.bool_]) -> Scores:
        """Return the scores when the patients in `lost` ((P,) bool) lost the groups."""
        chosen = torch.from_numpy(lost)[:, None]
        logits = torch.where(chosen, self.hidden.logits, self.recorded.logits)
        return replace(self.recorded, logits=logits)

    def draw(self, rate: float, seed: Sequence[int]) -> NDArray[np.bool_]:
        """Return who loses the groups, (P,) bool: this share of those who have them.

        They are lost completely at random; who is lost at a rate is so at a higher one.
        """
        order = np.random.default_rng(seed).permutation(np.flatnonzero(self.has))
        lost = np.zeros(len(self.has), dtype=bool)
        lost[order[: round(rate * len(order))]] = True
        return lost


def ask(
    model: MILModel,
    cases: Sequence[Case],
    groups: Sequence[int] | None = None,
    filling: Sequence[Tensor] | None = None,
) -> Work[Answers]:
    """Yield after every patient's slide, twice; return the answers with `groups` or without.

    A patient's answer does not depend on who else lacks a record: two passes serve every
    rate and draw.

    Parameters
    ----------
    groups
        The groups to hide, counted from 0; the whole record if None.
    filling
        Tokens to fill missing groups with, see `fill`; None to leave them to the model.
    """
    before, after = list(cases), [hide(case, groups) for case in cases]
    if filling is not None:
        before, after = ([fill(case, filling) for case in side] for side in (before, after))
    recorded = yield from evaluate(model, before, "as recorded")
    hidden = yield from evaluate(model, after, "with groups hidden")
    present = _present(_records(cases))
    chosen = present if groups is None else present[:, list(groups)]
    return Answers(recorded, hidden, np.asarray(chosen.any(axis=1)))


def _hidden(record: ClinicalTokens, groups: Sequence[int] | None) -> ClinicalTokens:
    present = record.present.clone()
    present[list(range(len(present)) if groups is None else groups)] = False
    return replace(record, present=present)


def _filled(record: ClinicalTokens, tokens: tuple[Tensor, ...]) -> ClinicalTokens:
    triples = zip(record.values, record.present.tolist(), tokens, strict=True)
    values = tuple(value if here else token for value, here, token in triples)
    return ClinicalTokens(values, torch.ones_like(record.present))


def _mean_token(records: Sequence[ClinicalTokens], group: int) -> Tensor:
    known = [record.values[group] for record in records if record.present[group]]
    if not known:
        raise ValueError(f"no patient has group {group}: there is no mean to fill it with")
    return torch.stack(known).mean(dim=0)


def _records(cases: Iterable[Case]) -> list[ClinicalTokens | None]:
    return [case.bags[0].clinical for case in cases]


def _present(records: Sequence[ClinicalTokens | None]) -> NDArray[np.bool_]:  # (P, G)
    width = max((len(record.present) for record in records if record is not None), default=0)
    none = np.zeros(width, dtype=bool)
    rows = [none if record is None else record.present.numpy() for record in records]
    return np.array(rows, dtype=bool).reshape(len(rows), width)
