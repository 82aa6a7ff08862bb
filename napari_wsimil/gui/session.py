"""Session: what one window is looking at; evented, knows no Qt and no viewer."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

from napari_wsimil.gui.view_state import Display
from napari_wsimil.slides.geometry import Region
from napari_wsimil.workflows.progress import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.gui.view_state import Cursor, View
    from napari_wsimil.gui.viewer.user_layers import Shelf
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.slides.tissue import Tissue
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.predictions import Answer, Review
    from napari_wsimil.workflows.pipeline import LoadedModel
    from napari_wsimil.workflows.study import Case


#: Largest share of the window's time that goes into drawing a map that still fills in: so
#: small that not one frame in twenty has to wait for it while somebody moves about.
_DRAWING_SHARE = 0.04


@dataclass(frozen=True, eq=False)
class _Joined:
    """A prediction with extras among its maps, and what it was made of."""

    prediction: Prediction
    extras: dict[str, tuple[Explanation, ...]]
    shown: Prediction


@dataclass(eq=False)
class Pane:
    """One slide and what is known of it. Setting an attribute emits its event.

    A field is None until it is known; whoever replaces the slide clears what depended on
    it (`show_slide`). Whoever would take slide or patient away asks `may_leave` first.

    Attributes
    ----------
    slide, tissue, grid, bag, model, prediction, display
        What is seen, from the file to the map.
    answer
        The last whole prediction; `prediction` may still fill in.
    called
        What the slide is called in the study it was opened from; empty if from none.
    case
        The patient, with their own record.
    record
        What a model that reads records is asked with: the patient's, or one that is tried on.
    baseline
        What edits of the record are compared with.
    extras
        Maps beside the prediction's own, by what they came of: an answer to a query, a step
        of a trajectory.
    stale
        Why what is shown is no longer what a run would say; empty while it is.
    area
        What was asked about last: a patch or a drawn area, in level-0 pixels.
    picked, focus
        The patch that was clicked, and the one that is to be looked at closely.
    view, wanted
        What the canvas shows, kept by who draws it, and what it is to show.
    cursor
        Where the mouse is; None while it is on no canvas.
    looks
        How many looks of a trajectory are shown; None where all are.
    side
        Names of the maps that lie beside the main canvas.
    finely
        Whether the attention inside the patches looked at is shown.
    follows
        Whether the canvas goes where the last look shown is.
    holds
        Who must agree before slide or patient go; they have something that is not saved.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(
            (
                *("slide", "tissue", "grid", "bag", "model", "prediction", "answer", "display"),
                *("case", "record", "baseline", "extras", "area", "focus", "wanted"),
            ),
            operator.is_,
        )
    )

    slide: Slide | None = None
    tissue: Tissue | None = None
    grid: PatchGrid | None = None
    bag: Bag | None = None
    model: LoadedModel | None = None
    prediction: Prediction | None = None
    answer: Prediction | None = None
    display: Display = field(default_factory=Display)
    called: str = ""
    case: Case | None = None
    record: Record | None = None
    baseline: Prediction | None = None
    extras: dict[str, tuple[Explanation, ...]] = field(default_factory=dict)
    stale: str = ""
    area: Region | None = None
    picked: int | None = None
    focus: int | None = None
    view: View | None = None
    wanted: View | None = None
    cursor: Cursor | None = None
    looks: int | None = None
    side: tuple[str, ...] = ()
    finely: bool = False
    follows: bool = False
    holds: list[Callable[[], bool]] = field(default_factory=list, repr=False)
    _joined: _Joined | None = field(default=None, repr=False)
    _pace: Pace = field(default_factory=lambda: Pace(0.1, _DRAWING_SHARE, 2.0), repr=False)

    @property
    def places(self) -> PatchGrid | None:
        """Return where the patches lie that the prediction is of, or would be."""
        return self.grid if self.prediction is None else self.prediction.bag.grid

    @property
    def shown(self) -> Prediction | None:
        """Return the prediction with the extras among its maps."""
        if self.prediction is None or not self.extras:
            return self.prediction
        made = self._joined
        if made is None or made.prediction is not self.prediction or made.extras is not self.extras:
            maps = [*self.prediction.explanations, *(m for e in self.extras.values() for m in e)]
            shown = replace(self.prediction, explanations=tuple(maps))
            made = self._joined = _Joined(self.prediction, self.extras, shown)
        return made.shown

    def may_leave(self) -> bool:
        """Return whether slide and patient may go; whoever holds them may ask a person."""
        return all(may() for may in tuple(self.holds))

    def pick(self, patch: int) -> None:
        """Take a patch for picked, and its place for what is asked about."""
        grid = self.places
        self.picked = patch
        if grid is not None:
            x, y = grid.coords[patch].tolist()
            self.area = Region(x, y, grid.patch_size, grid.patch_size)

    def show_extra(self, source: str, maps: tuple[Explanation, ...], first: bool = False) -> None:
        """Replace the maps of one source; none takes them away.

        The map that is shown stays so, by its name; `first` shows the first of the new ones.
        If it is gone the main map is shown.
        """
        if self.prediction is None or (not maps and source not in self.extras):
            return
        name = maps[0].name if first and maps else self._map_name()
        others = {key: value for key, value in self.extras.items() if key != source}
        self.extras = {**others, source: maps} if maps else others
        self.show_map(name)

    def show_map(self, name: str) -> None:
        """Show the map of a name, or the main one if there is none."""
        shown = self.shown
        names = [one.name for one in shown.explanations] if shown is not None else []
        index = names.index(name) if name in names else 0
        if index != self.display.map_index:
            self.display = replace(self.display, map_index=index)

    def _map_name(self) -> str:
        shown, index = self.shown, self.display.map_index
        return shown.explanations[index].name if shown is not None else ""

    def show_slide(self, slide: Slide | None) -> None:
        """Replace the slide; what was known of the former one is forgotten."""
        self.show_tissue(None)
        self.show_case(None)
        self.called = ""
        self.slide = slide

    def show_case(self, case: Case | None) -> None:
        """Replace the patient; the record is theirs, and what was tried on is forgotten."""
        self.record = self.baseline = None  # first: they are of another patient
        self.case = case
        if case is not None:
            self.record = case.record

    def show_tissue(self, tissue: Tissue | None) -> None:
        """Replace the tissue; patches, features and prediction are forgotten."""
        self.tissue = None  # first, or what is drawn where no patch lies is drawn once more
        self.show_grid(None)
        self.tissue = tissue

    def show_grid(self, grid: PatchGrid | None) -> None:
        """Replace the patches; features and prediction are forgotten."""
        self.show_bag(None)
        self.grid = grid

    def show_same(self, other: Pane) -> None:
        """Show the slide, patches and features of another pane, and no prediction."""
        self._forget_prediction()
        self.slide, self.tissue = other.slide, other.tissue
        self.grid, self.bag = other.grid, other.bag

    def show_bag(self, bag: Bag | None) -> None:
        """Replace the features, and the patches by theirs; the prediction is forgotten."""
        self._forget_prediction()
        self.bag = bag
        if bag is not None and bag.grid is not None:
            self.grid = bag.grid

    def show_prediction(self, prediction: Prediction) -> None:
        """Show a prediction, unless it is of another model than the one that is shown.

        Answers to queries about the former one are forgotten.
        """
        if self.model is not None and prediction.card is self.model.card:
            self.stale = ""
            self._forget_extras()
            self.prediction = prediction

    def show_answer(self, prediction: Prediction) -> None:
        """Show a prediction that is whole: what a run came to."""
        self.show_prediction(prediction)
        if self.prediction is prediction:
            self.answer = prediction

    def show_revision(
        self, prediction: Prediction, source: str = "", maps: tuple[Explanation, ...] = ()
    ) -> None:
        """Show what the model says of the same patches under another record.

        Everything else stays: which map is shown, what was picked, what lies beside. Maps of
        a source are replaced at once with the prediction, so that all is drawn once.
        """
        if maps:
            with self.events.extras.blocked():
                self.extras = {**self.extras, source: maps}
        self.prediction = prediction

    def show_partial(self, prediction: Prediction) -> None:
        """Show a map that still fills in, unless drawing it would keep the window busy."""
        if self._pace.due:
            with self._pace:
                self.show_prediction(prediction)

    def show_model(self, model: LoadedModel | None) -> None:
        """Replace the model; its prediction is forgotten, and which of its maps was shown."""
        self._forget_prediction()
        self.show_map("")
        self.model = model

    def _forget_prediction(self) -> None:
        self.prediction = self.focus = None  # first: what hangs on it is then not drawn again
        self.answer = None
        self.baseline = None
        self._joined = None
        self._forget_extras()
        self.stale = ""

    def _forget_extras(self) -> None:
        self.area = self.picked = self.looks = None
        if self.extras:
            name = self._map_name()
            self.extras = {}
            self.show_map(name)


@dataclass(eq=False)
class Session:
    """The panes of one window: the docks work on the first, the second lies beside it.

    `study` is the one that is open, `kept` the answer or review that was kept in it last, each
    with an event when it is another. `shelves` are the layers that users added on slides that
    are not open, by the slide's fingerprint.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators=dict.fromkeys(("study", "kept", "shelves"), operator.is_)
    )

    panes: list[Pane] = field(default_factory=lambda: [Pane(), Pane()])
    study: Study | None = None
    kept: Answer | Review | None = None
    shelves: dict[str, Shelf] = field(default_factory=dict, repr=False)

    @property
    def pane(self) -> Pane:
        return self.panes[0]

    @property
    def beside(self) -> Pane:
        return self.panes[1]
