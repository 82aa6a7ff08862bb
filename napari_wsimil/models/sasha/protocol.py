"""Explorer: a model that looks at a slide step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import MILOutput
    from napari_wsimil.models.sasha.model import Episode
    from napari_wsimil.models.sasha.trajectory import Look, Trajectory


@runtime_checkable
class Explorer(Protocol):
    """What is asked of a model, besides the contract of every model, to follow its looks."""

    def steps(self, bag: Bag) -> int:
        """Return how many looks an episode has."""

    def begin(self, bag: Bag) -> Episode:
        """Return an episode in which nothing was looked at yet."""

    def episode(self, bag: Bag) -> Generator[Look, None, MILOutput]:
        """Yield each look of the episode; return its outcome. It may be closed at any look."""

    def outcome(self, bag: Bag, looks: Sequence[Look]) -> MILOutput:
        """Return the output after these looks, all of them or the first ones."""

    def outcome_of(self, state: Tensor, actor: Tensor, trajectory: Trajectory) -> MILOutput:
        """Return the output in a (N, D) state: the actor's (N,) logits there, the looks to it."""
