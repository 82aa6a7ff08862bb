"""Cache of a model's intermediate results for one bag."""

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

Result = TypeVar("Result")
State = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class _Entry(Generic[Result]):
    """Cached result, with the bag and weights it depends on."""

    features: weakref.ref[Tensor]
    grid: PatchGrid | None
    state: State
    result: Result


class Recall(Generic[Result]):
    """Cache of one result, valid for unchanged bag and weights.

    Another bag, or a changed weight, replaces the entry. A bag is identified by its features and
    its grid being the same objects. The cache does not keep the features alive; when they are
    freed, the entry is removed.

    Notes
    -----
    A change of weights in place is detected by their version, which optimizers and loading
    increment; a change through `.data` is not detected.
    """

    def __init__(self) -> None:
        self._entry: _Entry[Result] | None = None

    def of(self, model: nn.Module, bag: Bag, make: Callable[[Bag], Result]) -> Result:
        """Return `make(bag)`, computed only if bag or model changed."""
        entry, state = self._entry, _state(model, bag)
        if (
            entry is not None
            and entry.features() is bag.features
            and entry.grid is bag.grid
            and entry.state == state
        ):
            return entry.result
        self._entry = entry = None  # free the old result before making a new one
        result = make(bag)
        self._entry = _Entry(weakref.ref(bag.features, self._forget), bag.grid, state, result)
        return result

    def _forget(self, features: weakref.ref[Tensor]) -> None:
        if self._entry is not None and self._entry.features is features:
            self._entry = None


def _state(model: nn.Module, bag: Bag) -> State:
    """Return address and version of each weight and the features."""
    tensors = chain(model.parameters(), model.buffers(), [bag.features])
    return tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
