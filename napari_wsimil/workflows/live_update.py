"""Following: maps brought up to an edited record, as work for a thread; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.explain.counterfactual import Revisable, prepare_revisions
from napari_wsimil.explain.map_shift import (
    ABSOLUTE,
    MOVABLE,
    Movement,
    level_difference,
    movement,
    share_difference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.models.loaded import LoadedModel
    from napari_wsimil.progress import Progress

#: The source of the maps, among those beside the model's own, that tell what an edit changed.
SOURCE = "change"


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
