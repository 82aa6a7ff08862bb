"""Session: state of one window; evented, knows no Qt and no viewer."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from psygnal import SignalGroupDescriptor

from napari_wsimil.gui.pane import Pane

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.gui.viewer.user_layers import Shelf
    from napari_wsimil.study.case import Case
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.predictions import Answer, Review


class WriteQueue(Protocol):
    """Writes into the study of a session, done in the order of their requests."""

    @property
    def busy(self) -> bool:
        """Whether something is still being written."""
        ...

    def submit(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object] = ...,
        failed: Callable[[str], object] = ...,
    ) -> None:
        """Add `work`; pass its result to `done`, or the text of its error to `failed`."""
        ...


class ImmediateQueue:
    """Write queue of a session without a window: each write is done at once, errors are raised."""

    busy = False

    def submit(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], object] = lambda _: None,
        failed: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Do `work` and pass its result to `done`."""
        done(work())


@dataclass(eq=False)
class Session:
    """State of one window: two panes, the open study, and the queue of its writes.

    Attributes
    ----------
    panes
        The docks work on the first; the second is the model that is compared with it.
    study
        Open study.
    kept
        Last prediction or review that was saved in the study.
    shelves
        Layers of the user on slides that are not open, by the fingerprint of the slide.
    writes
        The only way into the study: corrections, audit entries, predictions and reviews.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(("study", "kept", "shelves"), operator.is_)
    )

    panes: list[Pane] = field(default_factory=lambda: [Pane(), Pane()])
    study: Study | None = None
    kept: Answer | Review | None = None
    shelves: dict[str, Shelf] = field(default_factory=dict, repr=False)
    writes: WriteQueue = field(default_factory=ImmediateQueue, repr=False)

    @property
    def pane(self) -> Pane:
        return self.panes[0]

    @property
    def beside(self) -> Pane:
        return self.panes[1]

    def show_alone(self, case: Case | None) -> None:
        """Show a patient without a slide; close the slide on screen."""
        slide = self.pane.slide
        self.beside.show_slide(None)
        self.pane.show_slide(None)
        self.pane.show_case(case)
        if slide is not None:
            slide.close()
