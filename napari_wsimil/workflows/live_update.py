"""Following: maps brought up to an edited record, as work for a thread; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.explain.counterfactual import Revisable, prepare_revisions
from napari_wsimil.explain.map_shift import (
    ABSOLUTE,
    MOVABLE,
    Movement,
    level_difference,
    movement,
    share_difference,
)
from napari_wsimil.models.base import ExplanationKind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.session import Pane
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.progress import Progress
    from napari_wsimil.workflows.pipeline import LoadedModel

#: The source of the maps, among those beside the model's own, that tell what an edit changed.
SOURCE = "change"
#: Share of a slide's patches up to which those in view are made first; beyond it that only
#: delays the others.
_WORTH = 0.6


@dataclass(frozen=True, eq=False)
class Question:
    """What an edit asks.

    Attributes
    ----------
    model, bag
        Who is asked about what.
    record
        Under which record.
    seen
        What was said before.
    baseline
        What the answer is compared with.
    compared
        Name of the map that is compared; empty for none.
    first
        Indices of the patches that are wanted first.
    """

    model: LoadedModel
    bag: Bag
    record: Record
    seen: Prediction
    baseline: Prediction | None
    compared: str
    first: Tensor


@dataclass(frozen=True, eq=False)
class Revised:
    """An answer.

    Attributes
    ----------
    prediction
        Under the record of the question; of the patches asked first alone unless `whole`.
    changes
        Where the map that is compared moved and became brighter against the baseline.
    movement
        How far it did; None where nothing is compared, or the answer is not whole.
    """

    prediction: Prediction
    whole: bool
    changes: tuple[Explanation, ...] = ()
    movement: Movement | None = None


def question(pane: Pane, compared: str) -> Question | None:
    """Return what the pane's record asks; None if no model here reads records."""
    model, seen, record = pane.model, pane.prediction, pane.record
    if model is None or seen is None or record is None or model.card.record is None:
        return None
    first = _in_view(pane, seen)
    return Question(model, seen.bag, record, seen, pane.baseline, compared, first)


def answers(
    asked: Question,
    ready: Revisable | None,
    superseded: Callable[[], bool],
    drawn: Callable[[], None] = lambda: None,
) -> Generator[Progress | Revised, None, Revisable]:
    """Yield what there is to show, the patches in view first; return what is ready for more.

    Parameters
    ----------
    asked, ready
        What is asked, and what was prepared for it, if it was.
    superseded
        Whether something newer is asked for: then nothing more is made.
    drawn
        Waits until the patches in view are on screen. Made at the same time, the others would
        hold up that frame, and it them: both come sooner one after the other.
    """
    if ready is None:
        ready = yield from prepare_revisions(asked.model.model, asked.model.card, asked.bag)
    if superseded():
        return ready
    for found in ready.revise(asked.record, asked.seen, asked.first):
        whole = found.logits is not asked.seen.logits
        yield _compared(asked, found) if whole else Revised(found, whole=False)
        if superseded():
            break
        if not whole:
            drawn()
    return ready


def _in_view(pane: Pane, seen: Prediction) -> Tensor:
    """Return the patches in view, none where the shown map must be made as a whole."""
    grid, view, shown = seen.bag.grid, pane.view, pane.shown
    if grid is None or view is None or shown is None:
        return torch.empty(0, dtype=torch.long)
    one = shown.explanations[min(pane.display.map_index, len(shown.explanations) - 1)]
    corner = np.array([view.x - view.width / 2, view.y - view.height / 2])
    end = corner + np.array([view.width, view.height])
    inside = ((grid.coords + grid.patch_size > corner) & (grid.coords < end)).all(axis=1)
    if one.kind is not ExplanationKind.SIGMOID or inside.mean() > _WORTH:
        return torch.empty(0, dtype=torch.long)
    return torch.from_numpy(np.flatnonzero(inside))


def _compared(asked: Question, found: Prediction) -> Revised:
    if asked.baseline is None or not asked.compared:
        return Revised(found, whole=True)
    before, after = (_map(of, asked.compared) for of in (asked.baseline, found))
    if before is None or after is None or after.kind not in MOVABLE:
        return Revised(found, whole=True)
    changes = [share_difference(before, after)]
    if after.kind in ABSOLUTE:
        changes.append(level_difference(before, after))
    return Revised(found, True, tuple(changes), movement(before, after))


def _map(prediction: Prediction, name: str) -> Explanation | None:
    return next((one for one in prediction.explanations if one.name == name), None)
