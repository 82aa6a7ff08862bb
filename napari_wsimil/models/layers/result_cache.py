"""Recall: what a model made of a bag last, for as long as bag and weights stay the same."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.slides.patch_grid import PatchGrid

Made = TypeVar("Made")
State = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Made]):
    """What was made, and of what."""

    features: weakref.ref[Tensor]
    grid: PatchGrid | None
    state: State
    made: Made


class Recall(Generic[Made]):
    """Keeps what was made of one bag; another bag, or a changed weight, takes its place.

    A bag is known by its features and its grid being the same objects. The features are not
    kept alive, and what was made of them goes with them.

    Notes
    -----
    A change of weights in place is seen by their version, which optimizers and loading
    raise; one that goes around it, through `.data`, is not seen.
    """

    def __init__(self) -> None:
        self._entry: _Entry[Made] | None = None

    def of(self, model: nn.Module, bag: Bag, make: Callable[[Bag], Made]) -> Made:
        """Return what `make` makes of the bag, made anew only if bag or model are others."""
        entry, state = self._entry, _state(model, bag)
        if (
            entry is not None
            and entry.features() is bag.features
            and entry.grid is bag.grid
            and entry.state == state
        ):
            return entry.made
        self._entry = entry = None  # there is never more than one
        made = make(bag)
        self._entry = _Entry(weakref.ref(bag.features, self._forget), bag.grid, state, made)
        return made

    def _forget(self, features: weakref.ref[Tensor]) -> None:
        if self._entry is not None and self._entry.features is features:
            self._entry = None


def _state(model: nn.Module, bag: Bag) -> State:
    """Return where each weight, and the features, lie, and how often they were changed there."""
    tensors = chain(model.parameters(), model.buffers(), [bag.features])
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
