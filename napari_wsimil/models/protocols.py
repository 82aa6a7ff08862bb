"""Optional abilities of models, so that callers name no paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from napari_wsimil.features.bag import Bag, ClinicalTokens
    from napari_wsimil.models.base import Explanation, MILOutput
    from napari_wsimil.models.trajectory import Look, Trajectory
    from napari_wsimil.progress import Work


class Episode(Protocol):
    """State of a sequential model between two steps."""

    state: Tensor  # (N, D)
    changed: Tensor  # (n + 1,) rows changed by the last step, its own patch last

    def actor(self) -> Tensor:
        """Return (N,) logits of the policy in this state."""

    def repeat(self, step: Look) -> None:
        """Apply a recorded step without reading the slide."""


@runtime_checkable
class SequentialModel(Protocol):
    """A model that reads a slide patch by patch.

    An episode begins with features of all patches at low resolution. At each step a policy
    selects one patch, the slide is read there at high resolution, and the state of the slide
    changes; after the last step the model predicts from the final state. A `Trajectory` records
    the steps, for example "patch 17 first, then patch 4", with the probabilities after each.

    Recorded steps can be repeated without reading the slide (`Episode.repeat`), so that the
    state and the maps after any step can be computed again.
    """

    def steps(self, bag: Bag) -> int:
        """Return the number of steps of a full episode."""

    def begin(self, bag: Bag) -> Episode:
        """Return an episode before its first step."""

    def episode(self, bag: Bag) -> Generator[Look, None, MILOutput]:
        """Yield each step of the episode; return its output.

        The generator may be closed after any step.
        """

    def outcome(self, bag: Bag, steps: Sequence[Look]) -> MILOutput:
        """Return the output after all of these steps."""

    def outcome_of(self, state: Tensor, actor: Tensor, trajectory: Trajectory) -> MILOutput:
        """Return the output of a state.

        It needs the (N, D) state, its (N,) policy logits and the steps that led to it.
        """


class EditedSlide(Protocol):
    """A prepared slide under an edited record."""

    def maps(self, patches: Tensor) -> tuple[Explanation, ...]:
        """Return the maps of some patches.

        `patches` are (Q,) indices, scores are (Q,).
        """

    def output(self) -> MILOutput:
        """Return the model's output for the whole slide."""


class PreparedSlide(Protocol):
    """A slide prepared by an incremental model.

    It is valid while the model's weights stay unchanged.
    """

    def edit(self, clinical: ClinicalTokens) -> EditedSlide:
        """Return the slide under another record.

        ValueError for a record of another schema.
        """


@runtime_checkable
class IncrementalModel(Protocol):
    """A model with exact updates of prepared slides.

    `prepare` computes everything that does not depend on the patient's record. An edit of the
    record then needs a fraction of a forward pass, and gives the same maps up to rounding.
    """

    def prepare(self, bag: Bag) -> Work[PreparedSlide]:
        """Prepare a slide in the time of one forward pass.

        Progress counts rows.
        """


@runtime_checkable
class Repartitionable(Protocol):
    """A model with seeded random partitions of a slide."""

    def repartitioned(self, bag: Bag, seed: int) -> MILOutput:
        """Return the output under another random partition of the patches."""


@runtime_checkable
class BranchedModel(Protocol):
    """A model with branches with and without the record.

    `MILOutput.branches` contains the (C,) logits of both under the names `MULTI` and `SINGLE`.
    """

    record_branches: ClassVar[tuple[str, str]]


#: Names of the branches of a `BranchedModel`: with the record, and without it.
MULTI, SINGLE = "multi-modal", "single-modal"
